// Command etcd is the etcd server, built from the module that the suite embeds, for tests with an external one.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
