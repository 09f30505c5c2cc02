// Package local is the local platform: a small FaaS host with an admin API over gRPC and an HTTP front for invocations.
//
// The parts: [host] keeps functions and routes invocations, [front] takes them over HTTP, sandbox and its sub-packages start
// the isolated environments, runtimeapi speaks to the runtimes in them. Server is the gRPC side and Setup puts all
// together.
//
// [host]: https://pkg.go.dev/github.com/sebs-suite/sebs/services/local/host
// [front]: https://pkg.go.dev/github.com/sebs-suite/sebs/services/local/front
package local
