package process_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// TestStandbyIsUsed knows the standby again by its directory, which becomes
// the run's.
func TestStandbyIsUsed(t *testing.T) {
	root := t.TempDir()
	l := local(t, root, true)
	dir := warm(t, l, root)
	supervisor := standbys(t)[0]
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	command, open := gated(t, "job.1")
	started := enginetest.Start(t, l, command, secret.FromString("secret"))
	after, err := os.Stat(filepath.Join(root, "job.1"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the run has another directory, %v", err)
	}
	if parent, _ := stat(started.PID, 4); parent == "" || parent != strconv.Itoa(supervisor) {
		t.Errorf("the program's parent is %s, want %d", parent, supervisor)
	}
	open()
	if exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); exit.Code != 0 || got.Stdout.String() != "ready\ndone\n" {
		t.Errorf("exit %+v with %q", exit, got.Stdout.String())
	}
}

// TestStandbyIsDead kills the supervisor that stands by: the start does
// without. It may be half dead only, and take the job with it.
func TestStandbyIsDead(t *testing.T) {
	root := t.TempDir()
	l := local(t, root, true)
	warm(t, l, root)
	for _, pid := range standbys(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Start(t, l, enginetest.Shell("job.1", "echo once"), secret.Value{})
	if exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); exit.Code != 0 || got.Stdout.String() != "once\n" {
		t.Errorf("exit %+v with %q", exit, got.Stdout.String())
	}
}

func TestStandbyMeetsAnAbandonedDirectory(t *testing.T) {
	for name, test := range map[string]struct{ started, want string }{
		"unstarted": {"", "twice\n"},
		"lost":      {`{"pid":0}`, "out"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := local(t, root, true)
			warm(t, l, root)
			dir := abandon(t, root, test.started)
			if test.started == "" {
				write(t, filepath.Join(dir, "stdout"), "")
			}
			enginetest.Start(t, l, enginetest.Shell("job.1", "echo twice"), secret.Value{})
			if _, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); got.Stdout.String() != test.want {
				t.Errorf("got %q, want %q", got.Stdout.String(), test.want)
			}
		})
	}
}

// TestStandbyEndsWithItsAgent closes the agent's side, as the kernel does when
// an agent dies.
func TestStandbyEndsWithItsAgent(t *testing.T) {
	root := t.TempDir()
	l := local(t, root, true)
	warm(t, l, root)
	supervisors := standbys(t)
	l.Close()
	for _, pid := range supervisors {
		patience.Until(t, "the supervisor's end", func() bool { return !running(pid) })
	}
	enginetest.Follow(t, l, "warm.0", process.Offsets{})
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 1 || strings.HasPrefix(entries[0].Name(), ".") {
		t.Errorf("the root holds %v, %v", entries, err)
	}
	enginetest.Start(t, l, enginetest.Shell("job.1", "exit"), secret.Value{}) // starting goes on, cold
	enginetest.Follow(t, l, "job.1", process.Offsets{})
	if n := len(standbys(t)); n != 0 {
		t.Errorf("%d supervisors stand by after Close", n)
	}
}

// TestCleanSparesStandby has a standby of a living agent, and of a dead one.
func TestCleanSparesStandby(t *testing.T) {
	root := t.TempDir()
	l := local(t, root, true)
	living := warm(t, l, root)
	dead := filepath.Join(root, ".standby-dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dead, "command.json"), "")
	if err := l.Clean(t.Context(), 0, func(string) bool { return true }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(living); err != nil {
		t.Errorf("the living one's directory: %v", err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the dead one's directory: %v", err)
	}
}
