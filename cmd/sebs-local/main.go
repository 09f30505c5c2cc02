// Command sebs-local is the local platform, which runs functions in sandboxes on this machine.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/local"
)

func main() { app.Main("sebs-local", local.Setup) }
