package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/catalog"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

func TestParseLine(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 54, 43, 428236000, time.UTC)
	tests := map[string]struct { // all but the last two recorded from borg 1.2.4
		line string
		want fleet.File
	}{
		"directory": {
			`{"type": "d", "mode": "drwxr-xr-x", "user": "root", "group": "root", "uid": 0, "gid": 0, "path": "a", "healthy": true, "source": "", "linktarget": "", "flags": 0, "size": 0, "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "a", Name: "a", Type: fleet.Directory, Mode: "drwxr-xr-x", User: "root", Group: "root", MTime: at},
		},
		"hard link": {
			`{"type": "-", "mode": "hrw-r--r--", "user": "root", "group": "root", "uid": 0, "gid": 0, "path": "a/hard", "healthy": true, "source": "a/f", "linktarget": "a/f", "flags": 0, "size": 0, "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "a/hard", Name: "hard", Type: fleet.HardLink, Mode: "-rw-r--r--", User: "root", Group: "root", MTime: at, Target: "a/f"},
		},
		"symbolic link": {
			`{"type": "l", "mode": "lrwxrwxrwx", "user": "root", "group": "root", "uid": 0, "gid": 0, "path": "a/sym", "healthy": true, "source": "../x", "linktarget": "../x", "flags": 0, "size": 4, "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "a/sym", Name: "sym", Type: fleet.SymLink, Mode: "lrwxrwxrwx", User: "root", Group: "root", Size: 4, MTime: at, Target: "../x"},
		},
		"line end in the name": {
			`{"type": "-", "mode": "-rw-r--r--", "user": "", "group": "", "uid": 1000, "gid": 1001, "path": "a/new\nline", "healthy": false, "source": "", "linktarget": "", "flags": 0, "size": 1, "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "a/new\nline", Name: "new\nline", Type: fleet.RegularFile, Mode: "-rw-r--r--", UID: 1000, GID: 1001, Size: 1, MTime: at, Damaged: true},
		},
		"pair of surrogates": {
			`{"type": "p", "mode": "prw-r--r--", "user": "root", "group": "root", "uid": 0, "gid": 0, "path": "a/\u00dcn\u00ef\ud83d\ude00", "healthy": true, "source": "", "linktarget": "", "flags": 0, "size": 0, "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "a/Ünï😀", Name: "Ünï😀", Type: fleet.Fifo, Mode: "prw-r--r--", User: "root", Group: "root", MTime: at},
		},
		"no time, no numbers, more fields": {
			`{"type": "-", "mode": "-rw-r--r--", "user": null, "uid": null, "path": "f", "mtime": "yesterday", "bpath": "f"}`,
			fleet.File{Path: "f", Name: "f", Type: fleet.RegularFile, Mode: "-rw-r--r--"},
		},
		"owners without names": {
			`{"type": "-", "mode": "-rw-r--r--", "user": 1000, "group": 0, "uid": 1000, "gid": 0, "path": "f", "healthy": true, "source": "", "linktarget": "", "flags": 0, "size": 0, "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "f", Name: "f", Type: fleet.RegularFile, Mode: "-rw-r--r--", UID: 1000, MTime: at},
		},
		"type of borg 1.4": {
			`{"type": "h", "mode": "hrw-r--r--", "path": "f", "source": "g", "mtime": "2026-11-22T14:54:43.428236"}`,
			fleet.File{Path: "f", Name: "f", Type: fleet.HardLink, Mode: "-rw-r--r--", Target: "g", MTime: at},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := catalog.ParseLine([]byte(test.line))
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestParseLineRefuses(t *testing.T) {
	good := `{"type": "-", "mode": "-rw-r--r--", "path": "srv/f", "size": 1, "mtime": "2026-11-22T14:54:43.428236"}`
	if _, err := catalog.ParseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"no JSON":             {"{", ""},
		"unknown type":        {`"-",`, `"x",`},
		"no mode":             {`"-rw-r--r--"`, `""`},
		"negative size":       {"1,", "-1,"},
		"no path":             {"srv/f", ""},
		"from the top":        {"srv/f", "/srv/f"},
		"empty part":          {"srv/f", "srv//f"},
		"slash at the end":    {"srv/f", "srv/"},
		"above":               {"srv/f", "srv/../f"},
		"nothing but above":   {"srv/f", ".."},
		"NUL":                 {"srv/f", `srv/\u0000`},
		"too long":            {"srv/f", strings.Repeat("f", 20<<10)},
		"number for the path": {`"srv/f"`, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			line := strings.Replace(good, change[0], change[1], 1)
			if file, err := catalog.ParseLine([]byte(line)); err == nil || line == good {
				t.Errorf("%s became %+v", line, file)
			}
		})
	}
}

// FuzzParseLine feeds anything: nothing panics, and what comes out has a path
// that stays within an archive.
func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"type": "-", "mode": "-rw-r--r--", "path": "srv/f", "size": 1, "mtime": "2026-11-22T14:54:43.428236"}`))
	f.Add([]byte(item("l", "a/\"b\n", 3)))
	f.Add([]byte(`{"type": "-", "mode": "hrw-r--r--", "path": "\udcff", "size": 1e2, "linktarget": "x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		file, err := catalog.ParseLine(line)
		if err != nil {
			return
		}
		if file.Path == "" || strings.HasPrefix(file.Path, "/") || strings.HasSuffix(file.Path, "/") || strings.Contains("/"+file.Path+"/", "/../") ||
			!strings.HasSuffix(file.Path, file.Name) || len(file.Mode) != 10 || file.Size < 0 {
			t.Errorf("%q became %+v", line, file)
		}
	})
}
