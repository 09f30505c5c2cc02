// Package invoker calls functions: one, many, and queued ones.
//
// It calls recorded triggers only, over HTTP, the platform's API or an object in a bucket (package call). A call that fails
// is a record like any other, never an error of the request. Records of a run go to the metrics service over JetStream
// (package results). Any number of invokers share the queue of asynchronous invocations; each registers under invokers/ in
// etcd. Load schedules, statistics and provider metrics are not its business.
package invoker
