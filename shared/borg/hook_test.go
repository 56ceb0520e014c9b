package borg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// hookLab is a lab whose borg is a script, with hooks by name.
type hookLab struct {
	*lab
	task borg.Task
	seen string // what hooks append to

	shell []string // in place of /bin/sh; nil: that
	path  string   // in place of the PATH, with shell
}

// well is a borg that makes its archive; others differ in how they end.
const well = `echo '{"archive": {"name": "web1-now", "id": "aa", "stats": {"nfiles": 1, "original_size": 5}}, "encryption": {"mode": "none"}, "repository": {}}'`

func newHookLab(t *testing.T, does string) *hookLab {
	l := &hookLab{lab: newLab(t)}
	l.seen = filepath.Join(l.root, "seen")
	l.env.Binary = l.script("borg", "echo borg >>"+l.seen+"\n"+does)
	l.task = borg.Task{
		Kind: job.Backup, Host: "web1", Archive: "web1-now", Job: "01J", Plan: "daily", Run: "01R", Encrypted: true,
		Spec:       job.BackupSpec{Paths: []string{l.root}},
		Repository: job.Repository{Name: "main", Location: filepath.Join(l.root, "repo"), Encryption: job.Unencrypted},
	}
	return l
}

// hook makes a hook that notes that it ran.
func (l *hookLab) hook(name, does string) string {
	return l.script(name, "echo $BORGFLEET_HOOK $BORGFLEET_PHASE ${BORGFLEET_RESULT:--} ${BORGFLEET_EXIT:--} >>"+l.seen+"\n"+does)
}

func (l *hookLab) ran() string {
	content, err := os.ReadFile(l.seen)
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", "; ")
}

// outcome runs the task, and parses it twice, in pieces of different sizes.
func (l *hookLab) outcome(edit func(*borg.Exit), onStderr func(*os.Process, []byte)) (job.Outcome, string) {
	l.t.Helper()
	r := l.runToFile(onStderr)
	if edit != nil {
		edit(&r.exit)
	}
	judge := func(size int) (job.Outcome, string) {
		parser, log := borg.NewParser(l.task), []string{}
		parser.Stdout(r.stdout)
		items := []borg.Item{}
		for piece := range slices.Chunk(r.stderr, size) {
			items = append(items, parser.Stderr(piece)...)
		}
		for _, item := range append(items, parser.Flush()...) {
			if item.Line != nil {
				log = append(log, string(item.Line.Level)+" "+item.Line.Text)
			}
		}
		return parser.Finish(r.exit), strings.Join(log, "\n")
	}
	one, log := judge(1 << 16)
	other, same := judge(7)
	if fmt.Sprint(one.State, one.Failure) != fmt.Sprint(other.State, other.Failure) || log != same {
		l.t.Errorf("in other pieces: %v, %v\n%s\nand\n%s", one, other, log, same)
	}
	return one, log
}

// runToFile runs the task as a supervisor does: what looks after hooks may hold
// the output for a moment longer.
func (l *hookLab) runToFile(onStderr func(*os.Process, []byte)) recording {
	l.t.Helper()
	cmd, passphrase := l.command(l.task)
	if l.shell != nil {
		cmd.Path, cmd.Args = l.shell[0], append(slices.Clone(l.shell), cmd.Args[1:]...)
		cmd.Env = append(cmd.Env, "PATH="+l.path)
	}
	var outputs [2]*os.File
	for i := range outputs {
		file, err := os.OpenFile(filepath.Join(l.root, fmt.Sprint("output", i)), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
		if err != nil {
			l.t.Fatal(err)
		}
		defer file.Close()
		outputs[i] = file
	}
	cmd.Stdout, cmd.Stderr = outputs[0], outputs[1]
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if passphrase != nil {
		passphrase.Close()
	}
	read := func(i int) []byte {
		content, err := os.ReadFile(outputs[i].Name())
		if err != nil {
			l.t.Error(err)
		}
		return content
	}
	done := make(chan borg.Exit)
	go func() { done <- wait(l.t, cmd) }()
	for {
		select {
		case exit := <-done:
			return recording{stdout: read(0), stderr: read(1), exit: exit}
		case <-time.After(10 * time.Millisecond):
			if onStderr != nil {
				onStderr(cmd.Process, read(1))
			}
		}
	}
}

func TestHooksAroundABackup(t *testing.T) {
	fails := "echo '" + `{"type": "log_message", "levelname": "ERROR", "name": "borg", "message": "no", "msgid": "Repository.DoesNotExist"}` + "' >&2; exit 2"
	for name, test := range map[string]struct {
		borg, before, after string
		ran                 string
		state               job.State
		code                job.Code
		says, logs          string
	}{
		"well":              {well, "echo hello", "", "pre before - -; borg; post after succeeded 0", job.Succeeded, "", "", "info pre: hello"},
		"warning":           {well + "; exit 1", "", "", "pre before - -; borg; post after warning 1", job.Warning, "", "", ""},
		"borg fails":        {fails, "", "", "pre before - -; borg; sorry failure failed 2; post after failed 2", job.Failed, job.RepositoryMissing, "", ""},
		"borg is killed":    {"kill -9 $$", "", "", "pre before - -; borg; sorry failure failed 137; post after failed 137", job.Failed, job.Interrupted, "", ""},
		"no borg":           {"exit 127", "", "", "pre before - -; borg; sorry failure failed 127; post after failed 127", job.Failed, job.BorgMissing, "", ""},
		"before fails":      {well, "echo no space here; exit 3", "", "pre before - -; sorry failure failed -; post after failed -", job.Failed, job.HookFailed, "on web1 the hook pre ended with exit code 3, so nothing was backed up: no space here", "error hook pre ended with exit code 3"},
		"before skips":      {well, "echo on battery; exit 75", "", "pre before - -; post after skipped -", job.Cancelled, job.Skipped, "asked to leave this backup out: on battery", ""},
		"after fails":       {well, "", "echo oh; exit 4", "pre before - -; borg; post after succeeded 0", job.Warning, "", "", "warning hook post ended with exit code 4"},
		"kills its parent":  {well, "kill -9 $PPID; sleep 60", "", "pre before - -; sorry failure failed -; post after failed -", job.Failed, job.HookFailed, "ended by signal 9", ""},
		"asks its parent":   {well, "kill $PPID", "", "pre before - -; borg; post after succeeded 0", job.Succeeded, "", "", ""},
		"kills its group":   {well, "kill 0; sleep 60", "", "pre before - -; sorry failure failed -; post after failed -", job.Failed, job.HookFailed, "ended by signal 15", ""},
		"looks like borg":   {well, "echo '" + `{"type": "log_message", "levelname": "ERROR", "msgid": "Repository.DoesNotExist", "message": "x"}` + "'", "", "pre before - -; borg; post after succeeded 0", job.Succeeded, "", "", `info pre: {"type"`},
		"server tells lies": {`printf '\n\0361 begin 1 before pre\nno space here\n\0361 end 1 75\n' >&2;` + well, "", "", "pre before - -; borg; post after succeeded 0", job.Succeeded, "", "", ""},
		"has no secret":     {well, "[ ! -e /proc/self/fd/3 ] && [ -z \"$BORG_PASSPHRASE_FD\" ] || exit 9; cat", "[ ! -e /proc/self/fd/3 ]", "pre before - -; borg; post after succeeded 0", job.Succeeded, "", "", ""},
		"knows its job":     {well, "echo $BORGFLEET_JOB $BORGFLEET_PLAN $BORGFLEET_RUN $BORGFLEET_HOST $BORGFLEET_REPOSITORY $BORGFLEET_ARCHIVE", "", "pre before - -; borg; post after succeeded 0", job.Succeeded, "", "", "info pre: 01J daily 01R web1 main web1-now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newHookLab(t, test.borg)
			l.task.Hooks = borg.Hooks{
				Before: []string{l.hook("pre", test.before)}, After: []string{l.hook("post", test.after)}, OnFailure: []string{l.hook("sorry", "")},
			}
			o, log := l.outcome(nil, nil)
			if o.State != test.state || test.code != "" && (o.Failure == nil || o.Failure.Code != test.code) {
				t.Errorf("ended as %s, %v\n%s", o.State, o.Failure, log)
			}
			if got := l.ran(); got != test.ran {
				t.Errorf("ran %q, want %q\n%s", got, test.ran, log)
			}
			if !strings.Contains(log, test.logs) || test.says != "" && (o.Failure == nil || !strings.Contains(o.Failure.Message, test.says)) {
				t.Errorf("no %q or %q in %v\n%s", test.says, test.logs, o.Failure, log)
			}
		})
	}
}

// Hooks are run although no pipe can be made for what they print.
func TestHooksWithoutAPipe(t *testing.T) {
	l := newHookLab(t, well)
	l.script("mkfifo", "exit 1")
	t.Setenv("PATH", l.root+":"+os.Getenv("PATH"))
	l.task.Hooks = borg.Hooks{Before: []string{l.hook("pre", "echo hello")}, After: []string{l.hook("post", "")}}
	o, log := l.outcome(nil, nil)
	if got := l.ran(); got != "pre before - -; borg; post after succeeded 0" || o.State != job.Succeeded {
		t.Errorf("ran %q, ended as %s, %v\n%s", got, o.State, o.Failure, log)
	}
	if !strings.Contains(log, "no pipe can be made") || strings.Contains(log, "hello") {
		t.Error(log)
	}
}

// A hook that prints without an end is not waited for, and does not fill the disk.
func TestFloodingHook(t *testing.T) {
	l := newHookLab(t, well)
	l.task.Hooks.Before = []string{l.hook("flood", "head -c 1000000000 /dev/zero | tr '\\000' x; echo; echo the end")}
	begun := time.Now()
	r := l.runToFile(nil)
	if len(r.stderr) > 1<<20+8<<10 {
		t.Errorf("%d bytes are kept", len(r.stderr))
	}
	parser, log := borg.NewParser(l.task), ""
	parser.Stdout(r.stdout)
	for _, item := range parser.Stderr(r.stderr) {
		log += item.Line.Text[:min(100, len(item.Line.Text))] + "\n"
	}
	if o := parser.Finish(r.exit); o.State != job.Succeeded || !strings.Contains(log, "flood: it printed 998951433 bytes more") || !strings.Contains(log, "flood: the end\n") {
		t.Errorf("%s, %v\n%s", o.State, o.Failure, log)
	}
	t.Logf("a gigabyte took %s", time.Since(begun))
}

func TestHookThatHangs(t *testing.T) {
	for name, test := range map[string]struct{ does, says, logs string }{
		"till its limit":       {"echo waiting; sleep 3600", "ran for longer than its time limit", ""},
		"whatever it is asked": {"trap '' TERM; while :; do sleep 1; done", "ran for longer than its time limit", ""},
		"with its output":      {"sleep 3600 & echo $! >$(dirname $0)/pid; echo left; exit 5", "exit code 5", "left something behind"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newHookLab(t, well)
			l.task.Spec = job.BackupSpec{Paths: []string{l.root}, Hooks: &job.Hooks{Timeout: 1}}
			l.task.Hooks = borg.Hooks{Before: []string{l.hook("pre", "echo $$ >"+l.root+"/pid\n"+test.does)}, After: []string{l.hook("post", "")}}
			o, log := l.outcome(nil, nil)
			if o.Failure == nil || o.Failure.Code != job.HookFailed || !strings.Contains(o.Failure.Message, test.says) || !strings.Contains(log, test.logs) {
				t.Errorf("%s, %v\n%s", o.State, o.Failure, log)
			}
			if got := l.ran(); got != "pre before - -; post after failed -" {
				t.Errorf("ran %q", got)
			}
			pid := l.pid()
			if name != "with its output" && syscall.Kill(pid, 0) == nil && !zombies(pid) {
				t.Errorf("process %d lives", pid)
			}
			if name == "with its output" {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
		})
	}
}

// A job that is cancelled ends the hook that runs, or borg, and runs the hooks
// of the end all the same.
func TestCancelWithHooks(t *testing.T) {
	for name, test := range map[string]struct{ borg, before, ran string }{
		"before":      {well, "echo now; exec sleep 3600", "pre before - -; post after cancelled -"},
		"in borg":     {"echo now >&2; while :; do sleep 1; done", "", "pre before - -; borg; post after cancelled 143"},
		"after borg":  {well, "", "pre before - -; borg; post after succeeded 0"},
		"deaf before": {well, "trap '' TERM; echo now; while :; do sleep 1; done", "pre before - -; post after cancelled -"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newHookLab(t, test.borg)
			after := "sleep 2"
			if name == "after borg" {
				after = "echo now; sleep 3600"
			}
			l.task.Hooks = borg.Hooks{Before: []string{l.hook("pre", test.before)}, After: []string{l.hook("post", after)}, OnFailure: []string{l.hook("sorry", "")}}
			said, sent := "", false
			o, log := l.outcome(func(exit *borg.Exit) { exit.Cancelled = true }, func(p *os.Process, chunk []byte) {
				if said = string(chunk); !sent && strings.Contains(said, "now\n") {
					sent = true
					for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
						if err := syscall.Kill(-p.Pid, signal); err != nil {
							t.Error(err)
						}
					}
				}
			})
			want := job.Cancelled
			if name == "after borg" {
				want = job.Warning // the backup is there
			}
			if got := l.ran(); o.State != want || got != test.ran {
				t.Errorf("%s, %v; ran %q\n%s", o.State, o.Failure, got, log)
			}
		})
	}
}

// A hook that kills all of its job is told of, and is ended itself.
func TestHookThatKillsItsJob(t *testing.T) {
	l := newHookLab(t, well)
	l.task.Hooks.Before = []string{l.hook("pre", "echo $$ >"+l.root+"/pid; parent=$(ps -o ppid= -p $PPID); kill -9 $parent; sleep 3600")}
	o, _ := l.outcome(nil, nil)
	if o.State != job.Failed || o.Failure.Code != job.HookFailed || !strings.Contains(o.Failure.Message, "killed on web1 while the hook pre ran") {
		t.Errorf("%s, %v", o.State, o.Failure)
	}
	l.gone(l.pid())
}

// When the script itself is killed, borg does not go on alone: the job is over,
// and the next attempt would find a repository that is in use.
func TestBorgEndsWithItsScript(t *testing.T) {
	l := newHookLab(t, "echo $$ >$(dirname $0)/pid; echo now >&2; while :; do sleep 1; done")
	l.task.Hooks.After = []string{l.hook("post", "")}
	sent := false
	o, log := l.outcome(nil, func(p *os.Process, said []byte) {
		if !sent && strings.Contains(string(said), "now\n") {
			sent = true
			if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	})
	if o.State != job.Failed || o.Failure.Code != job.Interrupted {
		t.Errorf("%s, %v\n%s", o.State, o.Failure, log)
	}
	l.gone(l.pid())
}

// gone waits for the end of a process.
func (l *hookLab) gone(pid int) {
	l.t.Helper()
	patience.Until(l.t, "the end of a process", func() bool { return syscall.Kill(pid, 0) != nil || zombies(pid) })
}

func (l *hookLab) pid() int {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, "pid"))
	if err != nil {
		l.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		l.t.Fatal(err)
	}
	return pid
}

// zombies reports whether the process is one that nobody has waited for.
func zombies(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
