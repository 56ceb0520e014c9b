package borg_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// broken is a repository, or what a host remembers of it, in a state that borg
// refuses. What the failure's hint says is done, and must mend it.
type broken struct {
	name    string
	prepare func(l *lab)
	moved   string // where the repository is then, below the lab's root; empty: where it was
	spec    job.Spec
	code    job.Code
	hints   []string // the option that mends it, by the hint; several if that fails in its turn
}

func brokenMemories() []broken {
	move := func(l *lab) { l.rename("repo", "moved") }
	older := func(l *lab) {
		l.copyDir("repo", "copy")
		l.must(baseTask(l.root, resolve(backupOf("/data"), l.root)))
		if err := os.RemoveAll(l.root + "/repo"); err != nil {
			l.t.Fatal(err)
		}
		l.rename("copy", "repo")
	}
	const moved, replay, cache = "--accept-moved", "--accept-older", "--rebuild-cache"
	backup := backupOf("/data")
	return []broken{
		{"moved, seen by a list", move, "moved", job.ListSpec{}, job.RefusedByHost, []string{moved}},
		{"moved, seen by a backup", move, "moved", backup, job.RefusedByHost, []string{moved}},
		{"an older copy, seen by a list", older, "", job.ListSpec{}, job.RefusedByHost, []string{replay}},
		{"an older copy, seen by a backup", older, "", backup, job.RefusedByHost, []string{replay}},
		{"an older copy at another place", func(l *lab) { older(l); move(l) }, "moved", backup, job.RefusedByHost, []string{moved, replay}},
		{"cache's index damaged", func(l *lab) { l.flip("base/.cache/borg/*/chunks") }, "", backup, job.IntegrityError, []string{cache}},
		{"cache's config empty", func(l *lab) { l.empty("base/.cache/borg/*/config") }, "", backup, job.IntegrityError, []string{cache}},
	}
}

// mending is the verify job that a hint tells to run, with one of its options.
func mending(t *testing.T, failure *job.Failure, option string) job.VerifySpec {
	t.Helper()
	if want := "borgfleet host verify web1 --repo web1-main " + option; !strings.Contains(failure.Hint, want) {
		t.Fatalf("the hint does not say %q: %s", want, failure.Hint)
	}
	return map[string]job.VerifySpec{
		"--accept-moved": {AcceptMoved: true}, "--accept-older": {AcceptOlder: true}, "--rebuild-cache": {RebuildCache: true},
	}[option]
}

// TestHintsMendWhatBorgRemembers provokes each failure, does what its hint says,
// and expects that all is well then, also for a backup.
func TestHintsMendWhatBorgRemembers(t *testing.T) {
	made := newLab(t)
	made.must(baseTask(made.root, job.InitSpec{}))
	withArchives(made)
	for _, b := range brokenMemories() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			l := newLabWith(t, made)
			b.prepare(l)
			task := func(spec job.Spec) borg.Task {
				task := baseTask(l.root, resolve(spec, l.root))
				task.Archive = "web1-after"
				if b.moved != "" {
					task.Repository.Location = filepath.Join(l.root, b.moved)
				}
				return task
			}
			end := outcomeOfRun(l, task(b.spec))
			checkFailure(t, end, b.code)
			for _, option := range b.hints {
				if end.State != job.Failed {
					t.Fatalf("before %s it is %s", option, end.State)
				}
				end = outcomeOfRun(l, task(mending(t, end.Failure, option)))
			}
			if end.State != job.Succeeded || !end.Result.Checks[0].Good {
				t.Fatalf("what the hints say: %s %v", end.State, end.Failure)
			}
			l.must(task(job.ListSpec{}))
			l.must(task(backupOf("/data")))
			left, err := filepath.Glob(l.root + "/base/.config/borg/security/verify.*")
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

// How new a repository has to be is not forgotten for one that does not open.
func TestOlderRepositoryIsAcceptedOnlyIfItOpens(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	l.copyDir("repo", "copy")
	withArchives(l)
	if err := os.RemoveAll(l.root + "/repo"); err != nil {
		t.Fatal(err)
	}
	l.rename("copy", "repo")
	accept := baseTask(l.root, job.VerifySpec{AcceptMoved: true, AcceptOlder: true})
	right := l.pass
	l.pass = "wrong"
	checkFailure(t, outcomeOfRun(l, accept), job.PassphraseWrong)
	l.pass = right
	checkFailure(t, outcomeOfRun(l, baseTask(l.root, job.ListSpec{})), job.RefusedByHost)
	nonce := l.one("base/.config/borg/security/*/nonce")
	if end := outcomeOfRun(l, accept); end.State != job.Succeeded {
		t.Errorf("%s %v", end.State, end.Failure)
	}
	if _, err := os.Stat(nonce); err != nil {
		t.Errorf("which of the key's numbers were used is forgotten: %v", err)
	}
	l.must(baseTask(l.root, job.ListSpec{}))
}

// Some of what may be damaged borg makes anew by itself.
func TestBorgMendsByItself(t *testing.T) {
	made := newLab(t)
	made.must(baseTask(made.root, job.InitSpec{}))
	withArchives(made)
	for name, prepare := range map[string]func(l *lab){
		"list of files in the cache":        func(l *lab) { l.flip("base/.cache/borg/*/files") },
		"no cache at all":                   func(l *lab) { l.remove("base/.cache") },
		"index of the repository":           func(l *lab) { l.flip("repo/index.*") },
		"no index of the repository":        func(l *lab) { l.remove(strings.TrimPrefix(l.one("repo/index.*"), l.root)) },
		"no hints of the repository":        func(l *lab) { l.remove(strings.TrimPrefix(l.one("repo/hints.*"), l.root)) },
		"an entry cut off the last segment": func(l *lab) { l.write("repo/data/0/999", []byte("BORG_SEG")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLabWith(t, made)
			prepare(l)
			if end := outcomeOfRun(l, baseTask(l.root, resolve(backupOf("/data"), l.root))); end.State != job.Succeeded || end.Failure != nil {
				t.Errorf("%s %v, %+v", end.State, end.Failure, end.Result)
			}
			l.must(baseTask(l.root, job.CheckSpec{}))
		})
	}
}

func (l *lab) remove(name string) {
	l.t.Helper()
	if err := os.RemoveAll(filepath.Join(l.root, name)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) rename(from, to string) {
	l.t.Helper()
	if err := os.Rename(filepath.Join(l.root, from), filepath.Join(l.root, to)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) copyDir(from, to string) {
	l.t.Helper()
	if err := os.CopyFS(filepath.Join(l.root, to), os.DirFS(filepath.Join(l.root, from))); err != nil {
		l.t.Fatal(err)
	}
}

// one returns the one file that matches.
func (l *lab) one(pattern string) string {
	l.t.Helper()
	paths, err := filepath.Glob(filepath.Join(l.root, pattern))
	if err != nil || len(paths) != 1 {
		l.t.Fatalf("%s: %q, %v", pattern, paths, err)
	}
	return paths[0]
}

// flip turns some bits over in the middle of a file.
func (l *lab) flip(pattern string) {
	l.t.Helper()
	path := l.one(pattern)
	data, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	middle := data[len(data)/2:]
	for i := range middle[:min(8, len(middle))] {
		middle[i] ^= 0x55
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) empty(pattern string) {
	l.t.Helper()
	if err := os.WriteFile(l.one(pattern), nil, 0o600); err != nil {
		l.t.Fatal(err)
	}
}
