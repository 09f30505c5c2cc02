package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// goBenchmark runs a Go benchmark of a package. Its sub-benchmark `client` is the peer; every other line is ours.
func goBenchmark(pkg, name, benchtime string, count int) func(context.Context, *bench) (ours, peer []float64, err error) {
	return func(ctx context.Context, b *bench) (ours, peer []float64, err error) {
		return runGoBenchmark(ctx, b, pkg, name, benchtime, count, "ns/op", 1e-6)
	}
}

// goRate is goBenchmark for a benchmark that reports records/s of its own.
func goRate(pkg, name, benchtime string, count int) func(context.Context, *bench) (ours, peer []float64, err error) {
	return func(ctx context.Context, b *bench) (ours, peer []float64, err error) {
		return runGoBenchmark(ctx, b, pkg, name, benchtime, count, "records/s", 1)
	}
}

func runGoBenchmark(ctx context.Context, b *bench, pkg, name, benchtime string, count int, unit string, scale float64) (ours, peer []float64, err error) {
	if b.quick {
		count = 1
	}
	command := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", benchtime,
		"-count", strconv.Itoa(count), "-cpu", "1", pkg)
	// Statistics and ingest are stated per core; the stores of the others share the machine with their client alike.
	if unit == "ns/op" {
		command.Args = append(command.Args[:len(command.Args)-3], pkg)
	}
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go test -bench %s %s: %w\n%s", name, pkg, err, out)
	}
	scanner := bufio.NewScanner(bytes.NewReader(out))
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 3 || !strings.HasPrefix(fields[0], name) {
			continue
		}
		for i := 1; i+1 < len(fields); i++ {
			if fields[i+1] != unit {
				continue
			}
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, nil, fmt.Errorf("read %q: %w", scanner.Text(), err)
			}
			if strings.Contains(fields[0], "/client") {
				peer = append(peer, value*scale)
			} else {
				ours = append(ours, value*scale)
			}
		}
	}
	if len(ours) == 0 {
		return nil, nil, fmt.Errorf("benchmark %s of %s printed no %s:\n%s", name, pkg, unit, out)
	}
	return ours, peer, nil
}
