package version_test

import (
	"strings"
	"testing"

	"github.com/sebs-suite/sebs/internal/version"
)

func TestGet(t *testing.T) {
	t.Parallel()
	info := version.Get()
	if info.Version == "" || !strings.HasPrefix(info.Go, "go") || !strings.HasPrefix(info.String(), info.Version) {
		t.Errorf("this build is %+v", info)
	}
	if got := (version.Info{Version: "v1", Commit: "abc"}).String(); got != "v1 (abc)" {
		t.Errorf("String = %q", got)
	}
}
