// Command nats is the NATS server, built from the module that the suite embeds, for tests with an external one.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	usage := func() { fmt.Fprintln(os.Stderr, "usage: nats-server --config FILE (as the upstream program)") }
	options, err := server.ConfigureOptions(flags, args, usage, usage, usage)
	if err != nil {
		return err
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return err
	}
	ns.ConfigureLogger()
	if err := server.Run(ns); err != nil {
		return err
	}
	ns.WaitForShutdown()
	return nil
}
