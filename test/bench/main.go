// Command bench measures the suite against its peers, both in the same run, and prints one table.
//
// Every row alternates ours and the peer, so that what else the machine does hits both alike. A row whose peer is not
// there says so; it is no failure. docs/performance.md explains each row and keeps the last table.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the table.
type row struct {
	// Name says what is measured.
	Name string `json:"name"`
	// Unit is that of Ours and Peer.
	Unit string `json:"unit"`
	// Ours and Peer are medians; PeerName says what the peer is.
	Ours     float64 `json:"ours"`
	Peer     float64 `json:"peer"`
	PeerName string  `json:"peer_name"`
	// Ratio is Ours by Peer; Delta their difference.
	Ratio float64 `json:"ratio"`
	Delta float64 `json:"delta"`
	// N is how many measurements of each were made, SpreadPercent the interquartile range of ours by its median.
	N             int     `json:"n"`
	SpreadPercent float64 `json:"spread_percent"`
	// Budget is what the design asks for.
	Budget string `json:"budget"`
	// Note tells why a row has no figures.
	Note string `json:"note,omitempty"`
}

// measurement is a row in the making.
type measurement struct {
	name, unit, peerName, budget string
	run                          func(ctx context.Context, b *bench) (ours, peer []float64, err error)
}

// errMissing tells that a peer is not on this machine.
var errMissing = errors.New("missing")

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	out := flag.String("json", "bench.json", "file that gets the table as JSON")
	only := flag.String("only", "", "only rows whose name contains this")
	quick := flag.Bool("quick", false, "a tenth of the measurements, to try the program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "sebs-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newBench(ctx, dir, *quick)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var rows []row
	for _, m := range measurements() {
		if !strings.Contains(m.name, *only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", m.name)
		rows = append(rows, measure(ctx, b, m))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := printRows(os.Stdout, rows); err != nil {
		return err
	}
	return writeJSON(*out, rows)
}

func measure(ctx context.Context, b *bench, m measurement) row {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	r := row{Name: m.name, Unit: m.unit, PeerName: m.peerName, Budget: m.budget}
	ours, peer, err := m.run(ctx, b)
	if err != nil {
		r.Note = err.Error()
	}
	r.N = len(ours)
	if len(ours) > 0 {
		r.Ours, r.SpreadPercent = median(ours), spread(ours)
	}
	if len(peer) > 0 {
		r.Peer = median(peer)
		r.Ratio, r.Delta = r.Ours/r.Peer, r.Ours-r.Peer
	}
	return r
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	position := q * float64(len(sorted)-1)
	low := int(position)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (position-float64(low))*(sorted[low+1]-sorted[low])
}

func spread(values []float64) float64 {
	return 100 * (quantile(values, 0.75) - quantile(values, 0.25)) / median(values)
}

func printRows(w io.Writer, rows []row) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT\tOURS\tPEER\tUNIT\tRATIO\tDELTA\tN\tSPREAD %\tPEER IS\tBUDGET\tNOTE")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%.0f\t%s\t%s\t%s\n", r.Name, number(r.Ours), number(r.Peer), r.Unit,
			number(r.Ratio), number(r.Delta), r.N, r.SpreadPercent, r.PeerName, r.Budget, r.Note)
	}
	return tw.Flush()
}

func number(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 1000 || v <= -1000:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

func writeJSON(name string, rows []row) error {
	raw, err := json.MarshalIndent(map[string]any{
		"time": time.Now().UTC().Format(time.RFC3339), "go": runtime.Version(), "processors": runtime.NumCPU(),
		"platform": runtime.GOOS + "/" + runtime.GOARCH, "rows": rows,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(name), append(raw, '\n'), 0o644)
}
