package borg_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// lockLab is a directory that looks like a repository, and a stand-in for borg
// that notes how it was called and who held the lock then.
type lockLab struct {
	*lab
	repository string
}

func newLockLab(t *testing.T) lockLab {
	t.Helper()
	l := lockLab{lab: newLab(t)}
	l.repository = filepath.Join(l.root, "a repo; $(touch x) *")
	l.write(filepath.Base(l.repository)+"/config", nil)
	l.env.Binary = l.script("borg", fmt.Sprintf(`
for last; do :; done
printf '%%s\n' "$*" >%[1]s/called
ls -A "$last/lock.exclusive" >%[1]s/holders
rm -rf "$last/lock.exclusive" "$last/lock.roster"`, l.root))
	return l
}

// hold leaves a file of an exclusive holder.
func (l lockLab) hold(name string) {
	l.write(filepath.Join(filepath.Base(l.repository), "lock.exclusive", name), nil)
}

// share writes a roster as borg does.
func (l lockLab) share(t *testing.T, entries ...[3]any) {
	t.Helper()
	roster, err := json.Marshal(map[string]any{
		"exclusive": [][3]any{{"long.gone", 1, 0}}, "shared": append([][3]any{}, entries...),
	})
	if err != nil {
		t.Fatal(err)
	}
	l.write(filepath.Base(l.repository)+"/lock.roster", []byte(strings.NewReplacer(",", ", ", ":", ": ").Replace(string(roster))))
}

func (l lockLab) breakLock(t *testing.T, spec job.BreakLockSpec) (job.Outcome, string) {
	t.Helper()
	task := baseTask(l.root, spec)
	task.Repository.Location, task.Encrypted = l.repository, false
	r := l.run(task, nil)
	outcome, items := parse(task, r, 7)
	var log []string
	for _, item := range items {
		log = append(log, item.Line.Text)
	}
	return outcome, strings.Join(log, "\n")
}

func (l lockLab) called() bool {
	_, err := os.Stat(filepath.Join(l.root, "called"))
	return err == nil
}

// child returns the pid of a process that ends with the test.
func child(t *testing.T, argv ...string) int {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); _ = cmd.Wait() })
	if _, err := output.Read(make([]byte, 1)); err != nil { // it is up, with all that it maps
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// ended returns the pid of a process that was, and is waited for.
func ended(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// zombie returns the pid of a process that has ended, and whose parent did not
// ask yet.
func zombie(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(stat, []byte(") Z ")) {
			return cmd.Process.Pid
		}
	}
}

const own = "host-under-test" // BORG_HOST_ID of newLab

// TestLockHolders looks at every sort of holder.
func TestLockHolders(t *testing.T) {
	python := []string{"python3", "-c", "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"}
	living, gone, dead := child(t, python...), ended(t), zombie(t)
	other := child(t, "sh", "-c", "echo; read -r _")
	name := func(host string, pid int) string { return fmt.Sprintf("%s.%d-0", host, pid) }
	tests := map[string]struct {
		prepare func(l lockLab)
		want    []job.Lock
	}{
		"nobody":         {prepare: func(lockLab) {}},
		"empty leftover": {prepare: func(l lockLab) { l.hold("x"); _ = os.Remove(filepath.Join(l.repository, "lock.exclusive", "x")) }},
		"empty roster":   {prepare: func(l lockLab) { l.share(t) }},
		"ours, gone": {func(l lockLab) { l.hold(name(own, gone)) },
			[]job.Lock{{Holder: name(own, gone), PID: gone, Exclusive: true, Process: job.Dead}}},
		"ours, not waited for": {func(l lockLab) { l.hold(name(own, dead)) },
			[]job.Lock{{Holder: name(own, dead), PID: dead, Exclusive: true, Process: job.Dead}}},
		"ours, alive": {func(l lockLab) { l.hold(name(own, living)) },
			[]job.Lock{{Holder: name(own, living), PID: living, Exclusive: true, Process: job.Alive}}},
		"ours, its pid is another program's": {func(l lockLab) { l.hold(name(own, other)) },
			[]job.Lock{{Holder: name(own, other), PID: other, Exclusive: true, Process: job.Dead}}},
		"of another host": {func(l lockLab) { l.hold(name("db2.example.net@99", gone)) },
			[]job.Lock{{Holder: name("db2.example.net@99", gone), PID: gone, Exclusive: true, Process: job.Unknown}}},
		"not borg's name": {func(l lockLab) { l.hold("what is\nthis") },
			[]job.Lock{{Holder: "what?is?this.what?is?this-what?is?this", Exclusive: true, Process: job.Unknown}}},
		"pid zero": {func(l lockLab) { l.hold(own + ".0-0") },
			[]job.Lock{{Holder: own + ".0-0", Exclusive: true, Process: job.Unknown}}},
		"readers": {func(l lockLab) { l.share(t, [3]any{own, gone, 11}, [3]any{own, living, 0}, [3]any{"a,b].c", 5, 0}) },
			[]job.Lock{
				{Holder: fmt.Sprintf("%s.%d-b", own, gone), PID: gone, Process: job.Dead},
				{Holder: name(own, living), PID: living, Process: job.Alive},
				{Holder: "a?b?.c.5-0", PID: 5, Process: job.Unknown},
			}},
		"roster that cannot be read": {func(l lockLab) { l.share(t, [3]any{`qu"ote`, gone, 0}) },
			[]job.Lock{{Holder: "unreadable.lock-roster", Process: job.Unknown}}},
	}
	for about, test := range tests {
		t.Run(about, func(t *testing.T) {
			l := newLockLab(t)
			test.prepare(l)
			outcome, log := l.breakLock(t, job.BreakLockSpec{DryRun: true})
			if outcome.State != job.Succeeded || outcome.Result.Broken || l.called() {
				t.Fatalf("%s %v, result %+v\n%s", outcome.State, outcome.Failure, outcome.Result, log)
			}
			if diff := cmp.Diff(test.want, outcome.Result.Locks); diff != "" {
				t.Errorf("-want +got:\n%s\n%s", diff, log)
			}
		})
	}
}

func TestLockIsBrokenWhenAllAreGone(t *testing.T) {
	l, first, second := newLockLab(t), ended(t), ended(t)
	l.hold(fmt.Sprintf("%s.%d-0", own, first))
	l.share(t, [3]any{own, second, 0})
	outcome, log := l.breakLock(t, job.BreakLockSpec{})
	if outcome.State != job.Succeeded || !outcome.Result.Broken || len(outcome.Result.Locks) != 2 {
		t.Fatalf("%s %v, result %+v\n%s", outcome.State, outcome.Failure, outcome.Result, log)
	}
	for _, pid := range []int{first, second} {
		if want := fmt.Sprintf("process %d of this host, which is gone", pid); strings.Count(log, want) != 2 {
			t.Errorf("the log does not say twice %q:\n%s", want, log)
		}
	}
	// While borg ran, the lock was held on behalf of the script.
	holders, err := os.ReadFile(filepath.Join(l.root, "holders"))
	if err != nil || len(strings.Fields(string(holders))) != 2 {
		t.Errorf("holders while borg ran: %q, %v", holders, err)
	}
	if called, err := os.ReadFile(filepath.Join(l.root, "called")); err != nil || !strings.HasPrefix(string(called), "break-lock --log-json ") {
		t.Errorf("borg was called with %q, %v", called, err)
	}
}

func TestLockStaysWhenAHolderMayLive(t *testing.T) {
	l, gone := newLockLab(t), ended(t)
	l.hold(fmt.Sprintf("%s.%d-0", own, gone))
	l.share(t, [3]any{"db2@99", 12, 0})
	outcome, log := l.breakLock(t, job.BreakLockSpec{})
	failure := outcome.Failure
	if outcome.State != job.Failed || failure.Code != job.RepositoryLocked || l.called() {
		t.Fatalf("%s %v\n%s", outcome.State, failure, log)
	}
	for _, want := range []string{strconv.Itoa(gone) + " of this host, which is gone", "db2@99.12-0, of which nothing is known"} {
		if !strings.Contains(failure.Message, want) {
			t.Errorf("the message does not name %q: %s", want, failure.Message)
		}
	}
	if want := "borgfleet repo break-lock web1-main --host web1 --force"; !strings.Contains(failure.Hint, want) {
		t.Errorf("the hint does not say %q: %s", want, failure.Hint)
	}
	if outcome.Result == nil || len(outcome.Result.Locks) != 2 || outcome.Result.Broken {
		t.Errorf("result %+v", outcome.Result)
	}
	entries, err := os.ReadDir(filepath.Join(l.repository, "lock.exclusive"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in lock.exclusive: %v, %v", entries, err)
	}
	outcome, log = l.breakLock(t, job.BreakLockSpec{Force: true})
	if outcome.State != job.Succeeded || !outcome.Result.Broken || len(outcome.Result.Locks) != 2 || !l.called() {
		t.Errorf("with force: %s %v, result %+v\n%s", outcome.State, outcome.Failure, outcome.Result, log)
	}
}

// TestLockThatBorgDidNotMake: borg break-lock removes whatever lies in the lock's
// directory, and follows a link there. What borg does not make stays, also with
// force when it leads elsewhere.
func TestLockThatBorgDidNotMake(t *testing.T) {
	l, gone := newLockLab(t), ended(t)
	l.hold(fmt.Sprintf("%s.%d-0", own, gone))
	l.hold(".profile")
	if outcome, log := l.breakLock(t, job.BreakLockSpec{}); outcome.State != job.Failed || l.called() {
		t.Errorf("with a hidden file: %s %v\n%s", outcome.State, outcome.Failure, log)
	}
	lock, elsewhere := filepath.Join(l.repository, "lock.exclusive"), filepath.Join(l.root, "elsewhere")
	if err := os.Rename(lock, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(elsewhere, ".profile")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, lock); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []job.BreakLockSpec{{}, {Force: true}} {
		outcome, log := l.breakLock(t, spec)
		if outcome.State != job.Failed || outcome.Failure.Code != job.RepositoryLocked || l.called() {
			t.Errorf("with a link, %+v: %s %v\n%s", spec, outcome.State, outcome.Failure, log)
		}
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 1 {
		t.Errorf("left where the link leads: %v, %v", left, err)
	}
}

func TestLockFailures(t *testing.T) {
	gone := ended(t)
	held := func(l *lockLab) { l.hold(fmt.Sprintf("%s.%d-0", own, gone)) }
	tests := map[string]struct {
		prepare func(l *lockLab)
		code    job.Code
		locks   int
	}{
		"no repository": {func(l *lockLab) { l.repository += "-gone" }, job.RepositoryMissing, 0},
		"no borg":       {func(l *lockLab) { held(l); l.env.Binary = "/nonexistent/borg" }, job.BorgMissing, 1},
		"borg fails": {func(l *lockLab) {
			held(l)
			l.env.Binary = l.script("bad", `echo '{"type":"log_message","levelname":"ERROR","name":"borg","message":"x","msgid":"LockFailed"}' >&2; exit 2`)
		}, job.PermissionDenied, 1},
		"borg is ended": {func(l *lockLab) { held(l); l.env.Binary = l.script("bad", `kill -TERM $$`) }, job.Interrupted, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLockLab(t)
			test.prepare(&l)
			outcome, log := l.breakLock(t, job.BreakLockSpec{})
			if outcome.State != job.Failed || outcome.Failure.Code != test.code || hole.MatchString(outcome.Failure.Error()) {
				t.Errorf("%s %+v\n%s", outcome.State, outcome.Failure, log)
			}
			if test.locks > 0 && (outcome.Result == nil || len(outcome.Result.Locks) != test.locks || outcome.Result.Broken) {
				t.Errorf("result %+v", outcome.Result)
			}
		})
	}
}

// TestLockOnAServer cannot be seen, and is broken by force only.
func TestLockOnAServer(t *testing.T) {
	onServer := func(spec job.BreakLockSpec) borg.Task {
		task := baseTask(neutralRoot, spec)
		task.Repository.Location = "ssh://borg@store/srv/repo"
		return task
	}
	_, _, err := borg.Command(onServer(job.BreakLockSpec{}), borg.Environment{})
	if f := job.AsFailure(err); f == nil || f.Code != job.RepositoryLocked || f.Retryable || f.Hint == "" {
		t.Errorf("without force: %v", err)
	}
	task := onServer(job.BreakLockSpec{DryRun: true})
	task.Encrypted = false
	l := newLab(t)
	outcome, items := parse(task, l.run(task, nil), 100)
	if outcome.State != job.Succeeded || len(outcome.Result.Locks) != 0 || len(outcome.Result.Warnings) != 1 ||
		!strings.Contains(outcome.Result.Warnings[0], "cannot be seen from web1") || len(items) != 1 {
		t.Errorf("dry run: %s %+v, told %d items", outcome.State, outcome.Result, len(items))
	}
	task = onServer(job.BreakLockSpec{Force: true})
	argv, _, err := borg.Command(task, borg.Environment{})
	if want := "borg break-lock --log-json --lock-wait=60 -- ssh://borg@store/srv/repo"; err != nil || borg.Redact(argv) != want {
		t.Errorf("with force: %q, %v, want %q", borg.Redact(argv), err, want)
	}
	if outcome := borg.NewParser(task).Finish(borg.Exit{}); outcome.State != job.Succeeded || !outcome.Result.Broken {
		t.Errorf("with force: %s %+v", outcome.State, outcome.Result)
	}
	if outcome := borg.NewParser(task).Finish(borg.Exit{Signal: syscall.SIGKILL}); outcome.State != job.Failed || outcome.Result.Broken {
		t.Errorf("killed: %s %+v", outcome.State, outcome.Result)
	}
}
