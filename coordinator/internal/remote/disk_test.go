package remote_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// TestFullDisk has no room to start anything, and, while a program runs, none to
// say how it ended.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	disktest.Mount(t, dir, 8)
	h := open(t, newMachine(), dir+"/things")
	enginetest.Start(t, h, enginetest.Shell("before.1", `echo ready; while ! false; do sleep 0.05; done; exit 7`), secret.Value{})
	said(t, h, "before.1", "ready")
	free := disktest.Fill(t, dir)
	_, err := h.Start(t.Context(), enginetest.Shell("full.1", "echo never"), secret.Value{})
	_, certain := errors.AsType[*process.StartError](err)
	failure, explained := errors.AsType[*job.Failure](err)
	if !certain || !explained || failure.Code != job.DiskFull || !strings.Contains(failure.Message, dir) || !strings.Contains(failure.Hint, "--dir") {
		t.Errorf("start on a full disk: %v", err)
	}
	if err := h.Signal(t.Context(), "before.1", process.Kill); err != nil {
		t.Error(err)
	}
	exit, _ := enginetest.Follow(t, h, "before.1", process.Offsets{})
	if exit.Signal != 9 {
		t.Errorf("exit %+v: there was room set aside for it", exit)
	}
	free()
	if err := os.MkdirAll(dir+"/things", 0o700); err != nil {
		t.Fatal(err)
	}
	enginetest.Start(t, h, enginetest.Shell("after.1", "echo again"), secret.Value{})
	if exit, got := enginetest.Follow(t, h, "after.1", process.Offsets{}); exit.Code != 0 || got.Stdout.String() != "again\n" {
		t.Errorf("afterwards: exit %+v, %q", exit, got.Stdout.String())
	}
	patience.Until(t, "the runs are over, so that the disk can go", func() bool {
		over, err := h.Over(t.Context(), "after.1")
		return over && err == nil
	})
}
