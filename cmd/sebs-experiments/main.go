// Command sebs-experiments runs benchmarks and experiments from source to result.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/experiments"
)

func main() { app.Main("sebs-experiments", experiments.Setup) }
