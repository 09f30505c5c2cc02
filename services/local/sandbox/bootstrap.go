package sandbox

import (
	"context"
	"path"
	"runtime"

	"github.com/sebs-suite/sebs/internal/errs"
)

// Program is how a runtime is started inside a sandbox.
type Program struct {
	// Interpreter names the program family ("python", "node", "java"); empty means that Script itself is executed.
	Interpreter string
	// Script is what the interpreter starts, relative to the runtime root, or to the task root when InTask is set: the
	// bootstrap file, for java the directory of its classes.
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
	case "java":
		return Program{Interpreter: "java", Script: javaClasses}, nil
	case "cpp", "provided":
		return Program{Script: "bootstrap", InTask: true}, nil
	default:
		return Program{}, errs.Unimplemented("LANGUAGE_UNSUPPORTED",
			"platform local cannot run language %q; use python, nodejs, java or a package with its own bootstrap (cpp, provided)", r.Language)
	}
}

// Native is the runtime of packages that bring a program for the system and processor of AWS Lambda's x64 functions.
var Native = Runtime{Language: "cpp", Version: "all"}

// InPackage stands for the provider of a runtime that the package itself brings.
const InPackage = "the package itself"

// RunsNative tells whether this machine can run such packages as processes.
func RunsNative() bool { return runtime.GOOS == "linux" && runtime.GOARCH == "amd64" }

// Prepare makes what the program needs below the runtime root and is not there yet.
func (p Program) Prepare(ctx context.Context, runtimeRoot string) error {
	if p.Interpreter != "java" {
		return nil
	}
	return CompileJava(ctx, runtimeRoot)
}

// Command is the argument list that starts the program: with the interpreter's path, and the directories as they are seen
// inside the sandbox. memoryMB is the function's memory, 0 if there is no limit.
func (p Program) Command(interpreter, runtimeRoot, taskRoot string, memoryMB int) []string {
	switch {
	case p.InTask:
		return []string{path.Join(taskRoot, p.Script)}
	case p.Interpreter == "java":
		return javaArguments(interpreter, path.Join(runtimeRoot, p.Script), memoryMB)
	default:
		return []string{interpreter, path.Join(runtimeRoot, p.Script), taskRoot}
	}
}
