package local

import (
	"strings"
	"testing"
	"time"
)

func TestPagesCoverEverythingOnce(t *testing.T) {
	t.Parallel()
	base := time.Unix(1_800_000_000, 0)
	// Many entries share a time.
	var all []time.Time
	for n := range 50 {
		all = append(all, base.Add(time.Duration(n/7)*time.Second))
	}
	at := func(x *time.Time) time.Time { return *x }
	for size := 1; size < 12; size++ {
		seen := 0
		token := ""
		for {
			c, err := parseCursor(token)
			if err != nil {
				t.Fatal(err)
			}
			var entries []time.Time
			entries, token = page(all, c, size, at, nil)
			for _, e := range entries {
				if !e.Equal(all[seen]) {
					t.Fatalf("size %d: entry %d is %v, not %v", size, seen, e, all[seen])
				}
				seen++
			}
			if token == "" {
				break
			}
		}
		if seen != len(all) {
			t.Errorf("size %d: %d of %d entries", size, seen, len(all))
		}
	}
	// A budget ends a page early, but never before its first entry.
	entries, token := page(all, cursor{}, 10, at, func(*time.Time) bool { return false })
	if len(entries) != 1 || token == "" {
		t.Errorf("%d entries, token %q", len(entries), token)
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(cursor{at: time.Unix(1, 2), skip: 3}.token())
	f.Add("!")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := parseCursor(token)
		if err == nil && token != "" && c.skip < 0 {
			t.Errorf("%q became %+v", token, c)
		}
	})
}

func TestConfigReportsEverything(t *testing.T) {
	t.Parallel()
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Errorf("the default configuration: %v", err)
	}
	bad := Config{Sandbox: "vm", Listen: "0.0.0.0:1", FirstPort: 10, LastPort: 5, FirstUID: 5, Images: map[string]string{"python": ""}, PullImages: "sometimes"}
	if err := (&Config{Sandbox: "process", NoEgress: true}).Validate(); err == nil || !strings.Contains(err.Error(), "no_egress") {
		t.Errorf("process sandboxes without egress: %v", err)
	}
	err := bad.Validate()
	for _, key := range []string{"sandbox", "listen", "first_port", "keep_alive", "init_timeout", "max_concurrency", "max_sandboxes", "first_uid", "images", "pull_images"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("the error does not name %s: %v", key, err)
		}
	}
}
