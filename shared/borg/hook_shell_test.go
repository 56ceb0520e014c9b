package borg_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hookTools are the programs that the scripts around hooks use, beside a shell's
// own.
var hookTools = []string{"cat", "date", "dd", "env", "kill", "mkdir", "mkfifo", "mktemp", "od", "printf", "rm", "sh", "sleep", "tail", "tee", "tr", "wc"}

// toolbox makes a directory of links to programs: to this machine's own, or all to
// one.
func toolbox(t *testing.T, all string, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		target := all
		if target == "" {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			target = path
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestHooksInOtherShells runs the script by shells, and with programs, that are not
// this machine's own: a hook, one that does not end in time, and one that is
// ended by two signals at once. A dash without setsid has no groups: what a hook has
// started may outlive it there.
func TestHooksInOtherShells(t *testing.T) {
	for name, test := range map[string]struct {
		shell []string
		path  string
	}{
		"bash":           {[]string{"bash", "--posix"}, os.Getenv("PATH")},
		"mksh":           {[]string{"mksh"}, os.Getenv("PATH")},
		"busybox":        {[]string{"busybox", "sh"}, toolbox(t, "/bin/busybox", append(slices.Clone(hookTools), "setsid")...)},
		"without setsid": {[]string{"sh"}, toolbox(t, "", hookTools...)},
	} {
		shell, err := exec.LookPath(test.shell[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name+" fed", func(t *testing.T) {
			t.Parallel()
			l := newHookLab(t, `printf 'whole\000\n'; exit 0`)
			l.task.Kind, l.task.Spec = job.Restore, job.RestoreSpec{Archive: "a", Paths: []string{"dump"}, ContentTo: "into"}
			l.task.Hook = l.hook("into", "cat >"+l.root+"/back")
			l.shell, l.path = append([]string{shell}, test.shell[1:]...), test.path
			o, log := l.outcome(nil, nil)
			back, err := os.ReadFile(l.root + "/back")
			if err != nil || string(back) != "whole\x00\n" || l.ran() != "borg; into content - -" {
				t.Errorf("%s, %v: ran %q, came back %q, %v\n%s", o.State, o.Failure, l.ran(), back, err, log)
			}
		})
		for what, does := range map[string]string{"well": "echo hello", "late": "sleep 40", "cancelled": "echo now; exec sleep 40"} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				l := newHookLab(t, well)
				limit := 600
				if what == "late" {
					limit = 1
				}
				l.task.Spec = job.BackupSpec{Paths: []string{l.root}, Hooks: &job.Hooks{Timeout: limit}}
				l.task.Hooks = borg.Hooks{Before: []string{l.hook("pre", does)}, After: []string{l.hook("post", "")}}
				l.shell, l.path = append([]string{shell}, test.shell[1:]...), test.path
				sent := false
				o, log := l.outcome(func(exit *borg.Exit) { exit.Cancelled = what == "cancelled" }, func(p *os.Process, said []byte) {
					if !sent && strings.Contains(string(said), "now\n") {
						sent = true
						for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
							if err := syscall.Kill(-p.Pid, signal); err != nil {
								t.Error(err)
							}
						}
					}
				})
				want := map[string]string{
					"well": "pre before - -; borg; post after succeeded 0", "late": "pre before - -; post after failed -", "cancelled": "pre before - -; post after cancelled -",
				}[what]
				if got := l.ran(); got != want {
					t.Errorf("%s, %v: ran %q, want %q\n%s", o.State, o.Failure, got, want, log)
				}
			})
		}
	}
}
