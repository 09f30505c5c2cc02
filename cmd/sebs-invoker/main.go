// Command sebs-invoker calls functions; start several to share the load.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/invoker"
)

func main() { app.Main("sebs-invoker", invoker.Setup) }
