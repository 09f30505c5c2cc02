package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sebs-suite/sebs/internal/errs"
)

func TestHeapLeavesRoomForTheMachine(t *testing.T) {
	t.Parallel()
	for memory, want := range map[int]string{64: "-Xmx16m", 128: "-Xmx64m", 256: "-Xmx192m", 512: "-Xmx435m", 3008: "-Xmx2556m"} {
		if arguments := javaArguments("java", "/classes", memory); !slices.Contains(arguments, want) {
			t.Errorf("%d MB: %v, want %s", memory, arguments, want)
		}
	}
	if arguments := strings.Join(javaArguments("java", "/classes", 0), " "); strings.Contains(arguments, "-Xmx") || !strings.HasSuffix(arguments, "-cp /classes "+javaMain) {
		t.Errorf("without a limit: %s", arguments)
	}
}

func TestCompileJava(t *testing.T) {
	t.Parallel()
	if _, err := JavaCompiler(); err != nil {
		if errs.Reason(err) != "JAVA_COMPILER_MISSING" {
			t.Fatal(err)
		}
		t.Skipf("needs a JDK: %v", err)
	}
	root := t.TempDir()
	if err := CompileJava(t.Context(), root); err == nil || !strings.Contains(err.Error(), "no sources") {
		t.Errorf("without sources: %v", err)
	}
	source := filepath.Join(root, "java", "A.java")
	if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte("package a; class A { broken }"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CompileJava(t.Context(), root); err == nil || !strings.Contains(err.Error(), "A.java") {
		t.Errorf("a broken source: %v", err)
	}
	if err := os.WriteFile(source, []byte("package a; class A { }"), 0o600); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if err := CompileJava(t.Context(), root); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	info, err := os.Stat(filepath.Join(root, "java", "classes", "a", "A.class"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("class file: %v, %v", info, err)
	}
	left, err := filepath.Glob(filepath.Join(root, "java", ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
