// Package results keeps invocation records as Parquet in an object store.
//
// Under results/<run>/ lie segments, each with the records of one range of the result stream, and manifest.json, which lists the segments
// that make up the run. A segment is written before the manifest names it and never changes afterwards; readers go by the manifest alone.
// A range that the stream delivers again gives the same object, and the manifest knows the batches of every segment, so a batch that was
// published or delivered twice is in the run once. Messages leave the stream only when the manifest that names their records is
// written. Compaction writes the records of all segments in the order of their sequence into one file and puts it in their place.
//
// Column names are stable: any tool that reads Parquet can read them.
package results
