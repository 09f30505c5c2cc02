// Package storage is the service that owns object buckets and NoSQL tables of deployments, and the suite's own object
// store.
//
// Platforms are entries of a table that setup.go builds: each names the object store and the table store that serve
// its deployments. The platform "suite" (deployment "main") is the suite's own store for archives, packages and
// results; it is no deployment and has no tables.
//
// Files: names.go resource names and bucket names; buckets.go, objects.go, tables.go the work; environment.go what
// functions need to reach the stores; relay.go the way from the Docker bridge to stores that listen on loopback;
// server.go and its kin translate between the API and these; setup.go knows the concrete stores.
package storage
