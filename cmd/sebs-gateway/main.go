// Command sebs-gateway is the one address for clients: REST and gRPC with authentication.
package main

import (
	"github.com/sebs-suite/sebs/gateway"
	"github.com/sebs-suite/sebs/internal/app"
)

func main() { app.Main("sebs-gateway", gateway.Setup) }
