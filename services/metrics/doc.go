// Package metrics is the service that owns invocation results: it reads them from the result stream into Parquet in the suite's own object
// store, fetches the platforms' own figures, and answers with statistics, cost and exports.
//
// Results wait in the stream (NATS JetStream keeps them on disk) until the object that holds them is written; when the object store
// or this service is away they wait longer, and nothing is lost. Package results has the storage layout.
package metrics
