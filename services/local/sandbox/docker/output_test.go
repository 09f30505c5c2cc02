package docker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/services/local/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink collects output and cuts.
type sink struct{ bytes.Buffer }

func (s *sink) Cut() { s.WriteString("<cut>") }

func markOf(o *output, number int) string {
	return string(o.prefix) + fmt.Sprint(number) + string(rune(separator))
}

func TestMarksAreTakenOutWhereverTheyAreSplit(t *testing.T) {
	t.Parallel()
	sample := func(o *output) string {
		return "one\n" + markOf(o, 1) + "two\x1e and " + string(o.prefix[:5]) + " three\n" + markOf(o, 2) + "four"
	}
	whole := newOutput(&sink{})
	for at := 0; at <= len(sample(whole)); at++ {
		s := &sink{}
		o := newOutput(s)
		first, second := o.stream(), o.stream()
		a, b := o.cut(), o.cut()
		text := sample(o)
		for _, part := range []string{text[:at], text[at:]} {
			if n, err := first.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if strings.Contains(s.String(), "<cut>") {
			t.Fatal("cut although the other stream is not so far")
		}
		if _, err := second.Write([]byte(markOf(o, 1) + markOf(o, 2))); err != nil {
			t.Fatal(err)
		}
		<-a.done
		<-b.done
		want := "one\ntwo\x1e and " + string(o.prefix[:5]) + " three\nfour<cut><cut>"
		if s.String() != want {
			t.Fatalf("split at %d: %q, not %q", at, s.String(), want)
		}
	}
}

func TestEndDrawsAllLines(t *testing.T) {
	t.Parallel()
	s := &sink{}
	o := newOutput(s)
	a := o.cut()
	o.end()
	<-a.done
	<-o.cut().done
	if s.String() != "<cut><cut>" {
		t.Errorf("output %q", s.String())
	}
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("a\x1eb"), 1)
	f.Add([]byte("\x1e\x1e\x1e"), 2)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		s := &sink{}
		o := newOutput(s)
		w := o.stream()
		if at < 0 || at > len(text) {
			at = len(text)
		}
		for _, part := range [][]byte{text[:at], text[at:]} {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		// What is held back may be the beginning of a mark; everything else must have been passed on unchanged.
		if got := s.String() + string(w.held); got != string(text) {
			t.Errorf("%q became %q", text, got)
		}
	})
}

func TestImageNames(t *testing.T) {
	t.Parallel()
	i := newImages(nil, map[string]string{"python.3.12": "mine:1"}, true)
	if got := i.candidates(sandbox.Runtime{Language: "python", Version: "3.12"}); len(got) != 1 || got[0] != "mine:1" {
		t.Errorf("configured: %v", got)
	}
	got := i.candidates(sandbox.Runtime{Language: "nodejs", Version: "20"})
	want := "[sebs/run.local.nodejs.20 spcleth/serverless-benchmarks:run.local.nodejs.20-1.2.1 spcleth/serverless-benchmarks:run.local.nodejs.20-1.2.0 spcleth/serverless-benchmarks:run.local.nodejs.20]"
	if fmt.Sprint(got) != want {
		t.Errorf("by default: %v", got)
	}
	for tag, version := range map[string]string{
		"sebs/run.local.python.3.11:latest": "3.11", "spcleth/serverless-benchmarks:run.local.python.3.9-1.2.1": "3.9",
		"spcleth/serverless-benchmarks:run.local.nodejs.20": "20", "other/run.local.python.3.11:latest": "", "sebs/run.local.java.17:latest": "17", "sebs/run.local.ruby.3:latest": "",
	} {
		m := runtimeTag.FindStringSubmatch(tag)
		if (m == nil) != (version == "") || (m != nil && m[2] != version) {
			t.Errorf("%s: %v", tag, m)
		}
	}
	if !newer("3.11", "3.9") || newer("3.9", "3.11") || newer("3.9", "3.9") || !newer("3.9.1", "3.9") {
		t.Error("versions are not in order")
	}
	err := missing(sandbox.Runtime{Language: "python", Version: "3.12"}, "sebs/run.local.python.3.12")
	if !strings.Contains(err.Error(), "docker pull python:3.12-slim && docker tag python:3.12-slim sebs/run.local.python.3.12") {
		t.Error(err)
	}
}

func TestContainersAreHardened(t *testing.T) {
	t.Parallel()
	k := &Kind{owner: "o", network: "bridge"}
	config, host, err := k.describe(t.Context(), sandbox.Spec{ID: "s", Function: "f", Deployment: "d", Image: "with/entry-point", MemoryMB: 128, RuntimeAPI: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	if host.Privileged || fmt.Sprint(host.CapDrop) != "[ALL]" || !strings.HasPrefix(host.SecurityOpt[0], "no-new-privileges") || !host.ReadonlyRootfs ||
		host.Memory != 128<<20 || host.MemorySwap != host.Memory || *host.PidsLimit != maxProcesses || host.Tmpfs["/tmp"] == "" || config.User != user {
		t.Errorf("host configuration %+v, user %s", host, config.User)
	}
	if config.Labels[LabelFunction] != "f" || config.Labels[LabelDeployment] != "d" || config.Labels[LabelHost] != "o" {
		t.Errorf("labels %v", config.Labels)
	}
}
