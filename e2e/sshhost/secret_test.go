package sshhost_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestThePassphraseIsNowhereOnTheHost searches all that a job leaves or passes on
// a host without an agent, while it runs and after it: its home, what the shell
// may have kept, every process's command line and environment, and what the
// coordinator says and keeps.
func TestThePassphraseIsNowhereOnTheHost(t *testing.T) {
	w := newWorld(t)
	const passphrase = `0nly "here" \and\ n0where else` // other tests hand theirs to borg in its environment
	w.pass = passphrase
	needles := map[string][]byte{
		"plain": []byte(passphrase), "hex": []byte(hex.EncodeToString([]byte(passphrase))),
		"base64": []byte(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(passphrase)), "=")),
	}
	leaks := watchProcesses(t, needles)
	for reach, flags := range map[string][]string{"a": nil, "b": nil, "c": {"--reach", "tunnel"}} {
		h := w.host("web-"+reach, flags...)
		location := "depot"
		if reach == "a" {
			location = filepath.Join(t.TempDir(), "r")
			w.repository(reach, location)
			w.run(h.name, job.Init, reach, map[string]any{})
		} else {
			w.repository(reach, location, "--host", h.name)
		}
		harness.MakeTree(t, h.files, 8, 1<<20)
		submitted := w.backup(h, reach, map[string]any{"compression": "lzma,6"})
		w.running(submitted.ID)
		search(t, h.home, needles)
		archive := w.c.Await(submitted.ID, job.Succeeded).Result.Archive
		w.run(h.name, job.Check, reach, map[string]any{})
		w.run(h.name, job.Restore, reach, map[string]any{"archive": archive, "target": filepath.Join(h.home, "back")})
		search(t, h.home, needles)
		if location == "depot" {
			location = w.depotDir(reach)
		}
		search(t, location, needles)
	}
	search(t, w.c.Data, needles)
	for _, leak := range leaks() {
		t.Errorf("in a process: %s", leak)
	}
	for form, needle := range needles {
		if strings.Contains(w.c.Output(), string(needle)) {
			t.Errorf("the coordinator's log holds it (%s)", form)
		}
	}
}

func search(t *testing.T, dir string, needles map[string][]byte) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // it went away while we walk
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		searched++
		for form, needle := range needles {
			if bytes.Contains(data, needle) {
				t.Errorf("%s holds the passphrase (%s)", path, form)
			}
		}
		return nil
	})
	if err != nil || searched == 0 {
		t.Errorf("%d files searched in %s: %v", searched, dir, err)
	}
}

// watchProcesses reads command lines and environments of all processes until the
// returned function is called, which returns where a needle was.
func watchProcesses(t *testing.T, needles map[string][]byte) func() []string {
	stop, found := make(chan struct{}), make(chan []string, 1)
	go func() {
		var leaks []string
		for {
			select {
			case <-stop:
				found <- leaks
				return
			default:
				leaks = append(leaks, searchProcesses(needles)...)
			}
		}
	}()
	end := sync.OnceValue(func() []string { close(stop); return <-found })
	t.Cleanup(func() { end() })
	return end
}

func searchProcesses(needles map[string][]byte) (leaks []string) {
	for _, name := range []string{"cmdline", "environ"} {
		paths, _ := filepath.Glob("/proc/[0-9]*/" + name)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil || strings.HasPrefix(path, fmt.Sprintf("/proc/%d/", os.Getpid())) {
				continue
			}
			for form, needle := range needles {
				if bytes.Contains(data, needle) {
					leaks = append(leaks, path+" ("+form+")")
				}
			}
		}
	}
	return leaks
}
