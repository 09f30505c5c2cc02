// Command sebs-storage serves object buckets and tables.
package main

import (
	"github.com/sebs-suite/sebs/internal/app"
	"github.com/sebs-suite/sebs/services/storage"
)

func main() { app.Main("sebs-storage", storage.Setup) }
