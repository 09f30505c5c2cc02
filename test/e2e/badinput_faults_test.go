package e2e

import (
	"runtime"
	"strings"
)

// fault is one thing that users get wrong, and what they are told.
type fault struct {
	// name is the row of docs/faults.md.
	name string
	// command is the command line without the options that all have; language is added to it.
	command  string
	language string
	// lacks is a language that the machine must not have.
	lacks string
	// config is the content of the file given with --config.
	config string
	// exit is the exit code of docs/cli.md.
	exit int
	// says is what the message must name: the thing that is wrong and the remedy.
	says []string
	// succeeded and failed count the invocations that the results keep.
	succeeded, failed int
	// index tells that the fault is seen only where the package index answers.
	index bool
	// interrupt sends Ctrl-C while a function runs.
	interrupt bool
}

// The exit codes of docs/cli.md that faults lead to.
const (
	exitUsage        = 2
	exitNotFound     = 3
	exitPrecondition = 4
	exitPartial      = 7
	exitInterrupted  = 130
)

func faults() []fault {
	all := append(commandFaults(), folderFaults()...)
	all = append(all, functionFaults()...)
	return append(all, fault{
		name: "Ctrl-C while a function runs", command: "benchmark invoke 911.never-returns test --repetitions 3 --timeout 4 --progress plain", language: "python",
		exit: exitInterrupted, says: []string{"interrupted; cancelling operations/", "cancelled operations/"}, interrupt: true,
	})
}

// commandFaults are in the command line or in a file that it names.
func commandFaults() []fault {
	return []fault{
		{
			name: "unknown benchmark", command: "benchmark invoke 999.nothing test", exit: exitNotFound,
			says: []string{`"999.nothing" does not exist`, "010.sleep", "sebs benchmark list", "--benchmarks-dir", "badinput were searched too"},
		},
		{
			name: "misspelt benchmark", command: "benchmark invoke 010.slep test", exit: exitNotFound,
			says: []string{`"010.slep" does not exist`, "did you mean 010.sleep?"},
		},
		{
			name: "path for a benchmark", command: "benchmark invoke ../secrets test", exit: exitUsage,
			says: []string{`"../secrets" is not valid`, "letters, digits"},
		},
		{
			name: "unknown size", command: "benchmark invoke 010.sleep huge", exit: exitUsage,
			says: []string{"SIZE", `"huge"`, "use test, small or large"},
		},
		{
			name: "unknown language", command: "benchmark invoke 010.sleep test --language ruby", exit: exitUsage,
			says: []string{"--language", `"ruby"`, "nodejs or python"},
		},
		{
			name: "language that the machine lacks", command: "benchmark invoke 010.sleep test --language java", lacks: "java", exit: exitPrecondition,
			says: []string{"no java on this machine", "it can run:", "python 3."},
		},
		{
			name: "unknown version", command: "benchmark invoke 010.sleep test --language-version 2.7", exit: exitUsage,
			says: []string{"no python 2.7", "the nearest is 3.9", "3.13"},
		},
		{
			name: "unknown version of Node.js", command: "benchmark invoke 010.sleep test --language nodejs --language-version 99", exit: exitUsage,
			says: []string{"no nodejs 99", "the nearest is 24"},
		},
		{
			name: "unknown variant", command: "benchmark invoke 010.sleep test --language-variant pypy", exit: exitPrecondition,
			says: []string{"variant pypy of python", "--language-variant default"},
		},
		{
			name: "unknown architecture", command: "benchmark invoke 010.sleep test --architecture sparc", exit: exitUsage,
			says: []string{"--architecture", `"sparc"`, "arm64 or x64"},
		},
		{
			name: "architecture that the machine lacks", command: "benchmark invoke 010.sleep test --architecture " + foreignArchitecture(), exit: exitUsage,
			says: []string{foreignArchitecture() + `" does not run on platform local`, "choose it with --architecture"},
		},
		{
			name: "memory beyond the platform", command: "benchmark invoke 010.sleep test --memory 99999999", exit: exitUsage,
			says: []string{"memory_mb", "99999999", "less than or equal to 65536", "--memory"},
		},
		{
			name: "malformed --config", command: "benchmark invoke 010.sleep test", config: "{\"deployment\": {\"name\": \"local\"},\n", exit: exitUsage,
			says: []string{"--config", "is not JSON", "line 1", "ends too early"},
		},
		{
			name: "--config with a wrong type", command: "benchmark invoke 010.sleep test",
			config: `{"experiments": {"runtime": "python", "architecture": 64}}`, exit: exitUsage,
			says: []string{"--config", "experiments.runtime", "experiments.architecture"},
		},
	}
}

// foreignArchitecture is one that this machine builds for and cannot run.
func foreignArchitecture() string {
	if runtime.GOARCH == "arm64" {
		return "x64"
	}
	return "arm64"
}

// folderFaults are in a benchmark's folder, found before a function is deployed.
func folderFaults() []fault {
	row := func(name, benchmark string, says ...string) fault {
		return fault{name: name, command: "benchmark invoke " + benchmark + " test", language: "python", exit: exitUsage, says: append(says, benchmark)}
	}
	all := []fault{
		row("config.json that is no JSON", "900.config-syntax", "config.json", "is not a JSON object", "correct the file"),
		row("config.json with wrong values", "901.config-values", `"timeout" is "soon"`, `"memory" is -1`, "did you mean python?", "did you mean storage?"),
		row("config.json that is missing", "902.config-missing", "config.json", "a benchmark folder needs it"),
		row("input.py that raises", "903.input-raises", "input.py", "ValueError: the moon is in the wrong phase", "line 2", "correct input.py"),
		row("input.py that exits", "904.input-exits", "input.py", "ended its process", "it printed: going down"),
		row("input.py whose payload is no JSON", "905.input-no-json", "input.py", "generate_input returned what is not JSON", "return only what"),
		row("requirement that does not exist", "906.requirement-missing", `"there-is-no-such-package-4711" does not exist`, "correct the benchmark's requirements file"),
		row("init.sh that fails", "907.init-fails", "init.sh", "exit code 4", "init.sh finds no ferry", "correct the script"),
		row("package.sh that fails", "908.package-fails", "package.sh", "exit code 5", "package.sh finds no string", "correct the script"),
		row("function file that is missing", "909.code-missing", "holds no function.py", "add it"),
	}
	for i := range all {
		all[i].index = strings.HasPrefix(all[i].name, "requirement")
	}
	return all
}

// functionFaults are in the function. Those that fail on every second call of a sandbox show that the run goes on.
func functionFaults() []fault {
	var all []fault
	for _, language := range []string{"python", "nodejs"} {
		row := func(name, benchmark, options string, succeeded, failed int, says ...string) {
			all = append(all, fault{
				name: name + ", " + language, command: "benchmark invoke " + benchmark + " test " + options, language: language,
				exit: exitPartial, succeeded: succeeded, failed: failed, says: append(says, benchmark),
			})
		}
		const three, two, one = "--repetitions 3", "--repetitions 2", "--repetitions 1"
		row("function that raises", "910.raises", three, 2, 1, "the soup is cold", "sebs function logs sebs-")
		row("function that never returns", "911.never-returns", three+" --timeout 1", 2, 1, "time limit of 1s", "--timeout")
		row("function that exceeds its memory", "912.exceeds-memory", three, 2, 1, "out of memory", "128 MB", "--memory")
		row("function that prints 100 MB", "913.prints-much", two, 2, 0, "printed more than its log keeps", "print less")
		row("function whose answer is no JSON", "914.not-json", three, 2, 1, "not JSON", "return")
		row("function that returns no object", "915.no-object", three, 2, 1, "returned 42, which is not an object", "return an object with the field result")
		row("function that returns no result", "916.no-result", three, 2, 1, "lacks the field result", "return an object with the field result")
		row("function that imports what is not there", "917.import-fails", one, 0, 1, map[string]string{
			"python": "there_is_no_such_module", "nodejs": "there-is-no-such-module",
		}[language], "add the package that holds it", "sebs function logs sebs-")
		row("function that ends its process", "918.exits", three, 2, 1, "ended while the function was running", "exit status 9", "sebs function logs sebs-")
		row("function file without a handler", "919.no-handler", one, 0, 1, "no function handler(event)")
		row("function file with a syntax error", "920.syntax-error", one, 0, 1, "line ", map[string]string{
			"python": "function.py", "nodejs": "function.js",
		}[language])
	}
	return all
}
