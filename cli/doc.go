// Package cli is the command line of the suite: SeBS's commands and options, and the suite's own.
//
// Commands are thin: they read flags and files, call the services through the generated clients, and print what came
// back. The package imports no service. What it needs of the outside world stands in State, so that tests run
// commands in parallel and see everything they do.
package cli
