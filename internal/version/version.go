// Package version tells which build of the suite runs.
package version

import (
	"runtime/debug"
	"sync"
)

// release is set by the linker for released binaries: -ldflags "-X …/internal/version.release=v1.2.3".
var release string

// Info describes a build.
type Info struct {
	// Version is the released version, the module's version, or "devel".
	Version string
	// Commit is the revision of the source; it ends in "-dirty" for a changed tree. Empty where it is not known.
	Commit string
	// Time is when the commit was made, in RFC 3339 form. Empty where it is not known.
	Time string
	// Go is the version of the compiler.
	Go string
}

// Get returns the description of this build.
var Get = sync.OnceValue(read)

func read() Info {
	info := Info{Version: "devel"}
	build, ok := debug.ReadBuildInfo()
	if ok {
		info.Go = build.GoVersion
		if v := build.Main.Version; v != "" && v != "(devel)" {
			info.Version = v
		}
		dirty := ""
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				info.Commit = s.Value
			case "vcs.time":
				info.Time = s.Value
			case "vcs.modified":
				if s.Value == "true" {
					dirty = "-dirty"
				}
			}
		}
		if info.Commit != "" {
			info.Commit += dirty
		}
	}
	if release != "" {
		info.Version = release
	}
	return info
}

// String returns the version and, in brackets, the commit.
func (i Info) String() string {
	if i.Commit == "" {
		return i.Version
	}
	return i.Version + " (" + i.Commit + ")"
}
