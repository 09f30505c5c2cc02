// Package deployer owns deployments, functions and triggers.
//
// A deployment is the set of resources that one resource id names on one platform.
// Its record and those of its functions lie in etcd, which is a cache of what exists:
// when it is lost, deployments are found again by their buckets and functions by
// their labels, and a record that the platform no longer knows is repaired by
// creating the function again.
//
// One function is changed by one process at a time in the whole system, under a lock
// named after it; records are written by compare-and-swap. Secret values of a
// function's environment come from the storage service at each change and are kept
// nowhere here; a record holds their names only.
package deployer
