package benchmarks

import (
	"embed"
	"io/fs"
)

//go:embed 000.microbenchmarks 100.webapps 200.multimedia 300.utilities 500.scientific
var content embed.FS

// Files is the catalogue as a read-only tree, with paths such as
// "100.webapps/110.dynamic-html/input.py". Modes are not kept: init.sh has to
// be started as an argument of a shell, as SeBS does.
func Files() fs.FS { return content }
