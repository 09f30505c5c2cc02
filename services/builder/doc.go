// Package builder is the service that turns benchmark folders into what the other services need: payloads and input
// data, code packages, verdicts about answers.
//
// Benchmarks are looked up by name under the roots of this process, or come with the request as an uploaded archive.
// Archives, dependency layers and packages lie in the suite's own object store, named by digest, and are reached through
// the storage service, so that builders share nothing else but etcd. Users' code runs confined (package confine).
package builder
