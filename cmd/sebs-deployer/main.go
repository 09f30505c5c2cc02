// Command sebs-deployer keeps deployments, functions and triggers on the platforms.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/deployer"
)

func main() { app.Main("sebs-deployer", deployer.Setup) }
