package process_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// What a program keeps in its run's directory goes with that.
func TestFilesOfAProgramGoWithItsRun(t *testing.T) {
	for name, standby := range map[string]bool{"cold": false, "with a standby": true} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "jobs")
			l := local(t, root, standby)
			enginetest.Start(t, l, enginetest.Shell("job.1", `mkdir -p "$BORGFLEET_DIR/own/files" && echo kept >"$BORGFLEET_DIR/own/files/file"`), secret.Value{})
			enginetest.Follow(t, l, "job.1", process.Offsets{})
			if _, err := os.Stat(filepath.Join(root, "job.1/own/files/file")); err != nil {
				t.Error(err)
			}
			if err := l.Remove(t.Context(), "job.1"); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(filepath.Join(root, "job.1")); err == nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}
