// Command sebs-metrics keeps invocation results and answers with statistics.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/metrics"
)

func main() { app.Main("sebs-metrics", metrics.Setup) }
