package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ward is a repository with one archive of a large file, to be damaged, and the
// person who works with it by the command line.
type ward struct {
	t          *testing.T
	c          *harness.Coordinator
	a          *harness.Agent
	name       string // the repository's
	location   string
	data, root string // what is backed up; where restores go to
	archive    string
}

func (w *ward) admit(t *testing.T, name string) *ward {
	t.Helper()
	in := *w
	in.t, in.name = t, name
	in.location, _ = in.c.AddRepository(name)
	in.c.Init("web1", name)
	config := filepath.Join(in.location, "config")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	small := strings.Replace(string(text), "max_segment_size = 524288000", "max_segment_size = 1000000", 1)
	if err := os.WriteFile(config, []byte(small), 0o600); err != nil || small == string(text) {
		t.Fatal("the segments cannot be made small:", err)
	}
	in.archive = "first"
	in.works("backup", "--host", "web1", "--repo", name, "--archive", in.archive, in.data)
	return &in
}

// works runs a command that has to end well.
func (w *ward) works(args ...string) {
	w.t.Helper()
	w.ends(0, args...)
}

// ends runs a command that has to end with an exit code, and returns all that it
// told.
func (w *ward) ends(code int, args ...string) string {
	w.t.Helper()
	result := w.c.CLI(args...)
	if result.Code != code {
		w.t.Fatalf("borgfleet %v: exit code %d, want %d\n%s%s", args, result.Code, code, result.Stdout, result.Stderr)
	}
	return result.Stdout + result.Stderr
}

// spoken is a command that somebody is told to run.
var spoken = regexp.MustCompile(`borgfleet ((?:[a-z]+ [a-z-]+)(?: (?:--[a-z-]+|NEW|[a-z0-9/._-]*[a-z0-9]))+)`)

// advised returns the arguments of the command in a hint that has this option.
func (w *ward) advised(told, option string) []string {
	w.t.Helper()
	for _, match := range spoken.FindAllStringSubmatch(told, -1) {
		if strings.Contains(match[1]+" ", option+" ") {
			return strings.Fields(match[1])
		}
	}
	w.t.Fatalf("no command with %s is told:\n%s", option, told)
	return nil
}

func (w *ward) restore(code int, into string) string {
	w.t.Helper()
	return w.ends(code, "archive", "restore", w.name, w.archive, "--host", "web1", "--target", filepath.Join(w.root, w.name, into))
}

// restores checks that what is restored is what was backed up.
func (w *ward) restores(into string) {
	w.t.Helper()
	w.restore(0, into)
	want, err := os.ReadFile(filepath.Join(w.data, "large"))
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(w.root, w.name, into, w.data, "large"))
	if err != nil || !bytes.Equal(want, got) {
		w.t.Errorf("restored something else: %v", err)
	}
}

func (w *ward) backup(code int) string {
	w.t.Helper()
	return w.ends(code, "backup", "--host", "web1", "--repo", w.name, w.data)
}

// A repository that is damaged, moved or put back: whoever works with it is told
// what to do, and doing that to the letter mends it.
func TestHintsMend(t *testing.T) {
	t.Parallel()
	w := &ward{c: harness.StartCoordinator(t), data: t.TempDir(), root: t.TempDir()}
	w.a = w.c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("policy: {restore: [%q]}\n", w.root)})
	write(t, filepath.Join(w.data, "large"), string(noise(5<<20, 7)))
	write(t, filepath.Join(w.data, "note"), "small\n")
	for name, mend := range map[string]func(*ward){
		"moved": (*ward).moves, "older": (*ward).goesBack, "cache": (*ward).losesItsCache,
		"flipped": func(w *ward) { w.breaks(flip) }, "removed": func(w *ward) { w.breaks(os.Remove) },
	} {
		t.Run(name, func(t *testing.T) { mend(w.admit(t, name)) })
	}
}

// moves moves the repository on its disk, and then says so.
func (w *ward) moves() {
	to := filepath.Join(w.t.TempDir(), "new")
	if err := os.Rename(w.location, to); err != nil {
		w.t.Fatal(err)
	}
	args := w.advised(w.backup(4), "move")
	for i, arg := range args {
		if arg == "NEW" {
			args[i] = to
		}
	}
	w.works(args...)
	told := w.ends(4, "archive", "list", w.name, "--host", "web1")
	w.works(w.advised(told, "--accept-moved")...)
	w.backup(0)
	w.restores("again")
	if out := w.c.MustCLI("audit", "list"); !strings.Contains(out, "repository.move") {
		w.t.Errorf("the audit says nothing of it:\n%s", out)
	}
}

// goesBack puts an older copy in the repository's place.
func (w *ward) goesBack() {
	copied := filepath.Join(w.t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(w.location)); err != nil {
		w.t.Fatal(err)
	}
	w.backup(0)
	if err := errors.Join(os.RemoveAll(w.location), os.Rename(copied, w.location)); err != nil {
		w.t.Fatal(err)
	}
	w.works(w.advised(w.backup(4), "--accept-older")...)
	w.backup(0)
	w.restores("again")
}

// losesItsCache damages what borg remembers of the repository on the host.
func (w *ward) losesItsCache() {
	var shown struct {
		Info struct{ ID string }
	}
	w.works("repo", "info", w.name, "--host", "web1")
	decode(w.t, w.c.MustCLI("repo", "show", w.name, "--json"), &shown)
	cache := ""
	_ = filepath.WalkDir(w.a.Data, func(path string, _ os.DirEntry, _ error) error {
		if filepath.Base(path) == "config" && filepath.Base(filepath.Dir(path)) == shown.Info.ID && strings.Contains(path, "cache") {
			cache = path
		}
		return nil
	})
	if cache == "" {
		w.t.Fatalf("no cache of %q", shown.Info.ID)
	}
	if err := os.Truncate(cache, 0); err != nil {
		w.t.Fatal(err)
	}
	w.works(w.advised(w.backup(4), "--rebuild-cache")...)
	w.backup(0)
	w.restores("again")
}

// breaks damages the data of a file, and goes from hint to hint.
func (w *ward) breaks(damage func(path string) error) {
	if err := damage(largestSegment(w.t, w.location)); err != nil {
		w.t.Fatal(err)
	}
	check := w.advised(w.restore(4, "first"), "--verify-data")
	told := w.ends(4, check...)
	if !strings.Contains(told, string(job.IntegrityError)) && !strings.Contains(told, "damage") {
		w.t.Errorf("the check says:\n%s", told)
	}
	repair := w.advised(told, "--repair")
	asked := w.c.CLI(repair...)
	if asked.Code != 2 || !strings.Contains(asked.Stderr, "--yes") {
		w.t.Errorf("a repair that nobody was asked about: exit code %d, %s", asked.Code, asked.Stderr)
	}
	w.ends(3, append(repair, "--yes")...)
	later := w.ends(3, "repo", "check", w.name, "--host", "web1")
	if !strings.Contains(later, "large") {
		w.t.Errorf("a later check does not name the file:\n%s", later)
	}
	w.backup(0) // of what still exists, as it says
	w.works(append(w.advised(later, "--repair"), "--yes")...)
	w.works("repo", "check", w.name, "--host", "web1", "--verify-data")
	w.restores("again")
}

func largestSegment(t *testing.T, location string) string {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(location, "data", "*", "*"))
	largest, size := "", int64(0)
	for _, segment := range segments {
		if info, statErr := os.Stat(segment); statErr == nil && info.Size() > size {
			largest, size = segment, info.Size()
		}
	}
	if err != nil || largest == "" {
		t.Fatal("no segments", err)
	}
	return largest
}

// flip turns some bits over in the middle of a file.
func flip(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := len(data) / 2; i < len(data)/2+8; i++ {
		data[i] ^= 0x55
	}
	return os.WriteFile(path, data, 0o600)
}
