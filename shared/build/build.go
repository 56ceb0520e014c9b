// Package build tells which build of borgfleet this is.
package build

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version and Commit are stamped in by the linker (see the Makefile).
var (
	Version = "0.0.0-dev"
	Commit  = ""
)

// Info describes the running binary.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Current returns what is known of the running binary. Without a stamped
// commit, that of the Go tool's own build information is taken.
func Current() Info {
	info := Info{Version: Version, Commit: Commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info.Commit == "" {
		info.Commit = revision()
	}
	return info
}

// String is the one line that the version commands print.
func (i Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)", i.Version, i.Commit, i.Go, i.OS, i.Arch)
}

func revision() string {
	built, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range built.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return "unknown"
}
