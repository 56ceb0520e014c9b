package web_test

import (
	"net/http"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

// The page of a restore test says what it has seen.
func TestEvidenceOnItsPage(t *testing.T) {
	tested := ended(id(9), job.TestRestore, "web1", job.Succeeded, job.RestoreTestSpec{Archive: newest})
	right := true
	tested.Result = &job.Result{Archive: newest, Evidence: &job.Evidence{Archive: newest, Files: 20, FilesOf: 12_345, Bytes: 4_000_000, Same: 17, Changed: 2, Canary: &right}}
	w := rich()
	w.jobs = append(w.jobs, tested)
	wantPage(t, "restore test", w.get(t, "/jobs/"+string(tested.ID)), http.StatusOK, "Files restored", "12,345", "Same as on the host", "Canary", "right")
}
