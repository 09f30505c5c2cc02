// Package tables runs a DynamoDB-compatible table store beside the suite, for benchmarks that need tables and have no
// store configured.
//
// The store is dynalite, an npm package, installed once from the lock file in this package into the state directory and
// run as a child process on loopback. It keeps its tables over restarts. DynamoDB Local would be the more complete
// choice, but it listens on every address of the machine and cannot be told otherwise; it, ScyllaDB and DynamoDB itself
// are used by giving their endpoint in the configuration.
package tables
