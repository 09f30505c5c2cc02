package metrics

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	experimentsv1 "github.com/sebs-suite/sebs/gen/go/sebs/experiments/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/app/apptest"
)

func TestSweepDeletesWhatIsGoneAndOld(t *testing.T) {
	t.Parallel()
	n := newNeighbours()
	running := apptest.Start(t, n.setup)
	now := time.Date(2026, 5, 2, 10, 0, 0, 0, time.UTC)
	old, fresh := now.Add(-100*time.Hour), now.Add(-time.Hour)
	n.experiments.runs["runs/kept"] = &experimentsv1.Run{Name: "runs/kept"}
	n.storage.updated = map[string]time.Time{
		"results/gone/manifest.json": old, "results/gone/1.parquet": old, "results/gone/2.parquet": old,
		"results/kept/manifest.json": old, "results/kept/1.parquet": old,
		"results/young/manifest.json": fresh, "results/young/1.parquet": old,
		"processed/old.json": old, "processed/new.json": fresh,
	}
	for key := range n.storage.updated {
		n.storage.objects[bucketName()+refSeparator+key] = []byte("x")
	}
	s := &sweeper{
		store:     &objects{client: storagev1.NewStorageServiceClient(running.Conn("storage"))},
		runs:      runs{experimentsv1.NewExperimentsServiceClient(running.Conn("experiments"))},
		retention: 50 * time.Hour, log: slog.New(slog.DiscardHandler),
	}
	if err := s.sweep(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	var left []string
	for ref := range n.storage.objects {
		left = append(left, strings.TrimPrefix(ref, bucketName()+refSeparator))
	}
	slices.Sort(left)
	want := []string{
		"processed/new.json", "results/kept/1.parquet", "results/kept/manifest.json", "results/young/1.parquet", "results/young/manifest.json",
	}
	if !slices.Equal(left, want) {
		t.Errorf("left: %v", left)
	}
}

func TestConfigNamesEveryProblem(t *testing.T) {
	t.Parallel()
	good := defaultConfig()
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	bad := Config{Retention: time.Second, BatchRecords: 0, BatchBytes: 5, MaxLinger: time.Hour}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"retention", "batch_records", "batch_bytes", "max_linger"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s is missing in: %v", key, err)
		}
	}
}
