package jdk

import (
	"os"
	"path/filepath"
	"testing"
)

// install makes a directory that looks like a Java installation.
func install(t *testing.T, home, release string, programs ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "release"), []byte(release), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(home, "bin", program), nil, 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sdk := filepath.Join(home, ".sdkman", "candidates", "java")
	install(t, filepath.Join(sdk, "11"), "JAVA_VERSION=\"11.0.2\"\n", "java", "javac")
	install(t, filepath.Join(sdk, "21"), "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"21.0.10\"\n", "java")
	install(t, filepath.Join(sdk, "21-old"), "JAVA_VERSION=\"21.0.9\"\n", "java", "javac")
	install(t, filepath.Join(sdk, "broken"), "JAVA_VERSION=\"?\"\n", "java")
	install(t, filepath.Join(sdk, "empty"), "JAVA_VERSION=\"17\"\n")
	if err := os.Symlink(filepath.Join(sdk, "11"), filepath.Join(sdk, "current")); err != nil {
		t.Fatal(err)
	}
	var own []Installation
	for _, i := range Find(func(string) string { return "" }, home) {
		if filepath.Dir(i.Home) == sdk {
			own = append(own, i)
		}
	}
	want := []Installation{
		{Home: filepath.Join(sdk, "21"), Version: "21.0.10", Major: 21},
		{Home: filepath.Join(sdk, "21-old"), Version: "21.0.9", Major: 21},
		{Home: filepath.Join(sdk, "11"), Version: "11.0.2", Major: 11},
	}
	if len(own) != len(want) {
		t.Fatalf("found %+v, want %+v", own, want)
	}
	for n := range want {
		if own[n] != want[n] {
			t.Errorf("installation %d is %+v, want %+v", n, own[n], want[n])
		}
	}
	for major, home := range map[int]string{8: "11", 11: "11", 17: "21-old", 21: "21-old"} {
		if i, ok := Compiling(own, major); !ok || filepath.Base(i.Home) != home {
			t.Errorf("version %d is compiled by %+v, want %s", major, i, home)
		}
	}
	if i, ok := Compiling(own, 22); ok {
		t.Errorf("version 22 is compiled by %+v", i)
	}
}
