package sandbox

import (
	"path"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Program is how a runtime is started inside a sandbox.
type Program struct {
	// Interpreter names the program family ("python", "node"); empty means that Script itself is executed.
	Interpreter string
	// Script is the bootstrap file, relative to the runtime root, or to the task root when InTask is set.
	Script string
	InTask bool
}

// ProgramFor tells which program starts the given runtime.
//
// Languages that compile to a native bootstrap (cpp, and provided for third parties) carry it in the package.
func ProgramFor(r Runtime) (Program, error) {
	switch r.Language {
	case "python":
		return Program{Interpreter: "python", Script: path.Join("python", "bootstrap.py")}, nil
	case "nodejs":
		return Program{Interpreter: "node", Script: path.Join("nodejs", "bootstrap.js")}, nil
	case "cpp", "provided":
		return Program{Script: "bootstrap", InTask: true}, nil
	default:
		return Program{}, errs.Unimplemented("LANGUAGE_UNSUPPORTED",
			"platform local cannot run language %q; use python, nodejs or a package with its own bootstrap (cpp, provided)", r.Language)
	}
}
