// Package experiments makes runs: it lets the other services build, deploy, invoke and measure in one go.
//
// A run is an operation and a record runs/{id} in etcd. The flow of a run calls the other services through their clients
// only; it measures nothing itself. Its record tells what was asked, every step, what went wrong, and what is needed to
// make the run again and to judge its figures. Results lie with the metrics service.
package experiments
