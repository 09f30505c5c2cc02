// Command sebs-builder builds code packages and prepares the inputs of benchmarks.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/builder"
)

func main() { app.Main("sebs-builder", builder.Setup) }
