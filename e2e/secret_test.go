package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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

// A passphrase stands nowhere but in the file that the operator gave: not in
// the state of coordinator or agent, not in their output, not in the command
// line or environment of any process, not in an answer.
func TestThePassphraseIsNowhereInClear(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	agent := c.AddAgent("web1", harness.AgentOptions{})
	_, passphrase := c.AddRepository("main")
	needles := forms(passphrase)

	processes := watchProcesses(t, needles)
	c.Init("web1", "main")
	files := t.TempDir()
	harness.MakeTree(t, files, 8, 1<<20)
	backup := c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,6"}}`, files))
	searchFiles(t, agent.Data, needles) // while the job runs, too
	done := c.Await(backup.ID, job.Succeeded)
	check := c.Submit(`{"host":"web1","kind":"check","repository":"main"}`)
	c.Await(check.ID, job.Succeeded)
	for _, leak := range processes() {
		t.Errorf("in a process: %s", leak)
	}

	searchFiles(t, c.Data, needles)
	searchFiles(t, agent.Data, needles)
	answers := c.MustCLI("status", "--json") + c.MustCLI("job", "list", "--json") + c.MustCLI("repo", "show", "main", "--json") +
		c.MustCLI("job", "log", string(done.ID)) + c.MustCLI("host", "show", "web1", "--json")
	for name, text := range map[string]string{"coordinator's output": c.Output(), "agent's output": agent.Output(), "answers": answers} {
		for form, needle := range needles {
			if strings.Contains(text, string(needle)) {
				t.Errorf("the %s holds the passphrase (%s)", name, form)
			}
		}
	}
}

// forms returns the passphrase as it could be written.
func forms(passphrase string) map[string][]byte {
	quoted, _ := json.Marshal(passphrase)
	all := map[string][]byte{
		"plain": []byte(passphrase),
		"JSON":  bytes.Trim(quoted, `"`),
		"hex":   []byte(hex.EncodeToString([]byte(passphrase))),
	}
	for shift := range 3 { // base64 looks different at each of three offsets
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), passphrase...))
		all[fmt.Sprintf("base64+%d", shift)] = []byte(strings.TrimRight(encoded[4:len(encoded)-4], "="))
	}
	return all
}

func searchFiles(t *testing.T, dir string, needles map[string][]byte) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // a file that went away while we walk
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

// watchProcesses reads command lines and environments of all processes again
// and again, until the returned function is called; that returns what it found.
func watchProcesses(t *testing.T, needles map[string][]byte) func() []string {
	t.Helper()
	stop, done := make(chan struct{}), make(chan []string, 1)
	go func() {
		var leaks []string
		for {
			select {
			case <-stop:
				done <- leaks
				return
			default:
				leaks = append(leaks, searchProcesses(needles)...)
			}
		}
	}()
	end := sync.OnceValue(func() []string { close(stop); return <-done })
	t.Cleanup(func() { end() })
	return end
}

func searchProcesses(needles map[string][]byte) (leaks []string) {
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if strings.HasPrefix(path, fmt.Sprintf("/proc/%d/", os.Getpid())) {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
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
