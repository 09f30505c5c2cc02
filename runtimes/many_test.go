package runtimes_test

import (
	"testing"

	"github.com/sebs-suite/sebs/runtimes/runtimetest"
)

// TestManyCalls keeps one process busy: nothing may pile up or go astray over
// many invocations on one connection.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	sources := map[string]string{
		"python": "def handler(event):\n    return {'result': event['n']}\n",
		"nodejs": "exports.handler = async (event) => ({ result: event.n });\n",
	}
	eachInterpreter(t, sources, func(t *testing.T, p *runtimetest.Process) {
		p.Start(t)
		for i := range 1000 {
			a := p.Succeed(t, `{"n": 1}`)
			if *a.IsCold != (i == 0) || string(a.Result) != `{"result": 1}` && string(a.Result) != `{"result":1}` {
				t.Fatalf("call %d: %+v", i, a)
			}
		}
	})
}
