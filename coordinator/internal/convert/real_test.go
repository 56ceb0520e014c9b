package convert_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/convert"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestRealAgent: the agent itself takes the command lines and the settings that
// it is given, as far as the token, which no coordinator has made.
func TestRealAgent(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "borgfleet-agent"), "github.com/borgfleet/borgfleet/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, said)
	}
	s := newSite(t)
	steps, err := s.convert(func(o *convert.Options) { o.Agents = []string{dir} })
	checkFailure(t, err, job.HostUnreachable, "is not a whole enrolment token")
	if got, want := names(steps), "check copy settings memory undo"; got != want {
		t.Errorf("steps %q, want %q", got, want)
	}
	said, err := exec.Command(s.place.Binary, "doctor", "--config", s.place.Config, "--data", s.place.Data).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 { // 2: a fault in the settings
		t.Errorf("doctor does not take the settings: %v\n%s", err, said)
	}
}
