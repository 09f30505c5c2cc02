// Package ratelimit bounds how often all processes of a suite together ask an API in the name of an account.
//
// For every account and API there is one token bucket in etcd: a single number, the time until which tokens are handed
// out. A process takes a few tokens at once by compare-and-swap and uses each of them at its own time, so that etcd is not
// asked for every request. Tokens that are not used soon are void: kept ones would add up to a burst.
//
// In any stretch of time d the processes send at most rate × d + burst requests, as far as their clocks agree. While etcd
// does not answer each process goes on with a share of the rate by itself.
package ratelimit
