package remote_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Another user of the host, who can write where we keep our scripts, would say
// what we run there.
func TestNothingIsStartedWhereOthersMayWrite(t *testing.T) {
	for name, test := range map[string]struct {
		mode  os.FileMode
		owner int
		says  string
	}{
		"everybody":    {0o777, -1, "can be written to by others"},
		"as in /tmp":   {0o777 | os.ModeSticky, -1, "can be written to by others"},
		"a group":      {0o770, -1, "can be written to by others"},
		"another user": {0o755, 12345, "belongs to another user"},
		"only us":      {0o755, -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if test.owner >= 0 && os.Getuid() != 0 {
				t.Log("only root can give a directory away")
				return
			}
			dir := filepath.Join(t.TempDir(), "our things")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, test.mode), os.Chown(dir, test.owner, -1)); err != nil {
				t.Fatal(err)
			}
			h := open(t, newMachine(), dir)
			_, err := h.Start(t.Context(), enginetest.Shell("job.1", "echo ran"), secret.Value{})
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				enginetest.Follow(t, h, "job.1", process.Offsets{})
				return
			}
			failure, ok := errors.AsType[*job.Failure](err)
			if !ok || failure.Code != job.PermissionDenied || !strings.Contains(failure.Message, test.says) {
				t.Errorf("%v, %v", err, failure)
			}
			if entries, err := os.ReadDir(filepath.Join(dir, "jobs")); err == nil && len(entries) > 0 {
				t.Errorf("there is %v", entries)
			}
		})
	}
}
