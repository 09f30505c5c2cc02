// Package stores starts the stores that functions use, for tests: an object
// store in the process and a DynamoDB-compatible table store beside it.
package stores
