// Package app is the skeleton of every process of the suite.
//
// A service is a [Setup] function that builds its parts on a [Process] and tells it what to serve. [Main] runs one or more
// of them as a program: it reads the configuration, connects to etcd and NATS, serves gRPC and HTTP, and ends in order when
// a signal comes. [New] and [Process.Run] do the same inside a program, for `sebs up` and for tests.
//
// Services find each other with [Process.Dial]: in the same process, at addresses of the configuration, or through etcd.
package app
