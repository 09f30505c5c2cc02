package cli

import (
	"fmt"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/sebs-suite/sebs/internal/errs"
)

// options are those that set a field of a request.
var options = map[string]string{
	"memory_mb": "--memory", "timeout_seconds": "--timeout", "repetitions": "--repetitions", "concurrency": "--concurrency",
	"function_id": "--function-name",
}

// printError prints an error with what its details tell: the fields that are wrong and the end of a log.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "sebs: %s\n", strings.TrimRight(err.Error(), "\n"))
	for _, v := range errs.Violations(err) {
		line := fmt.Sprintf("  %s: %s", v.Field, v.Description)
		if !strings.Contains(err.Error(), v.Description) {
			fmt.Fprintln(w, line)
		}
		option := options[v.Field[strings.LastIndexByte(v.Field, '.')+1:]]
		if option != "" && !strings.Contains(err.Error(), option) {
			fmt.Fprintf(w, "  the option is %s\n", option)
		}
	}
	for _, detail := range errs.Details(err) {
		if debug, ok := detail.(*errdetails.DebugInfo); ok {
			for _, line := range debug.GetStackEntries() {
				fmt.Fprintf(w, "  | %s\n", line)
			}
		}
	}
	for _, key := range []string{"log", "traceback"} {
		text := errs.Metadata(err, key)
		if text == "" || strings.Contains(err.Error(), text) {
			continue
		}
		for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			fmt.Fprintf(w, "  | %s\n", line)
		}
	}
}
