package process_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestStartOnAFullDisk(t *testing.T) {
	for name, standby := range map[string]bool{"cold": false, "standby": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			disktest.Mount(t, root, 1)
			l := local(t, root, standby)
			enginetest.Start(t, l, enginetest.Shell("job.1", `:`), secret.Value{})
			enginetest.Follow(t, l, "job.1", process.Offsets{})
			free := disktest.Fill(t, root)
			_, err := l.Start(t.Context(), enginetest.Shell("job.2", `:`), secret.Value{})
			failure, ok := errors.AsType[*process.StartError](err)
			if !ok || !errors.Is(failure, syscall.ENOSPC) {
				t.Fatalf("start on a full disk: %v, want a StartError because of ENOSPC", err)
			}
			free()
			enginetest.Start(t, l, enginetest.Shell("job.2", `echo ran`), secret.Value{})
			if _, got := enginetest.Follow(t, l, "job.2", process.Offsets{}); got.Stdout.String() != "ran\n" {
				t.Errorf("after there was room it printed %q", got.Stdout.String())
			}
		})
	}
}

// TestTheDiskFillsWhileItRuns: the report that borg prints in the end, and how
// it ended, have their room from the start.
func TestTheDiskFillsWhileItRuns(t *testing.T) {
	root := t.TempDir()
	disktest.Mount(t, root, 1)
	l := local(t, root, false)
	command, open := gated(t, "job.1")
	command.Argv[2] += `; i=0; while [ $i -lt 100 ]; do echo "line $i of a report" && echo "line $i of a log" >&2 || exit 9; i=$((i+1)); done`
	enginetest.Start(t, l, command, secret.Value{})
	patience.Until(t, "the room is made", func() bool {
		var made, said syscall.Stat_t
		return syscall.Stat(filepath.Join(root, "job.1", "stdout"), &made) == nil && made.Blocks > 8 && syscall.Stat(filepath.Join(root, "job.1", "stderr"), &said) == nil && said.Blocks > 8
	})
	disktest.Fill(t, root)
	open()
	exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{})
	if exit.Code != 0 || exit.Lost || !strings.HasSuffix(got.Stdout.String(), "line 99 of a report\n") || !strings.HasSuffix(got.Stderr.String(), "line 99 of a log\n") {
		t.Errorf("exit %+v with %d bytes", exit, got.Stdout.Len())
	}
}

func TestOver(t *testing.T) {
	l := local(t, t.TempDir(), false)
	is := func(want bool, when string) {
		t.Helper()
		if over, err := l.Over(t.Context(), "job.1"); over != want || err != nil {
			t.Errorf("%s: over %v, error %v", when, over, err)
		}
	}
	is(true, "before the start")
	command, open := gated(t, "job.1")
	started := enginetest.Start(t, l, command, secret.Value{})
	is(false, "while it runs")
	killSupervisor(t, started.PID)
	is(false, "without its supervisor")
	open()
	exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{})
	is(true, "after the end")
	if !exit.Lost || exit.Lived != 0 {
		t.Errorf("exit %+v; nobody knows how long it lived", exit)
	}
}

func TestLifeIsMeasured(t *testing.T) {
	l := local(t, t.TempDir(), false)
	enginetest.Start(t, l, enginetest.Shell("job.1", `sleep 0.1`), secret.Value{})
	exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{})
	if exit.Lived < 100_000_000 || exit.Lived > exit.EndedAt.Sub(exit.StartedAt)+1_000_000_000 {
		t.Errorf("it lived for %v, from %v to %v", exit.Lived, exit.StartedAt, exit.EndedAt)
	}
}
