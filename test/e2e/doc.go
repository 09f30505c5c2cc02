// Package e2e drives the built binaries as a user would: processes, flags, files and exit codes.
//
// It is a module of its own so that what only tests need never enters the dependency graph of the product.
package e2e
