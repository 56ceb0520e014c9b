package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/job"
)

// unready returns what of the coordinator is not ready, by name.
func unready(c *harness.Coordinator) (map[string]string, error) {
	response, err := http.Get(c.HTTP + "/readyz")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var health struct {
		Checks []struct {
			Name  string
			OK    bool
			Error string
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&health); err != nil {
		return nil, err
	}
	faults := map[string]string{}
	for _, check := range health.Checks {
		if !check.OK {
			faults[check.Name] = check.Error
		}
	}
	return faults, nil
}

// TestTheCoordinatorsDiskIsFullForAWhile: it says so, takes nothing new, and
// when there is space again gets everything that happened meanwhile, once.
func TestTheCoordinatorsDiskIsFullForAWhile(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	disktest.Mount(t, disk, 96)
	c := harness.StartCoordinatorWith(t, harness.CoordinatorOptions{Data: filepath.Join(disk, "coordinator")})
	s := midBackupOn(t, c)
	if out := c.MustCLI("status"); !strings.Contains(out, "the disk with the coordinator's data has") {
		t.Errorf("nothing is said of a disk with less than 200 MB:\n%s", out)
	}
	free := disktest.Fill(t, disk)
	harness.Eventually(t, "the coordinator to say that its disk is full", func() error {
		faults, err := unready(c)
		if err == nil && !strings.Contains(faults["disk"], "full") {
			err = fmt.Errorf("it says %v", faults)
		}
		if text := fmt.Sprint(faults); strings.Contains(text, disk) {
			t.Fatalf("it tells strangers its paths: %s", text)
		}
		return err
	})
	request := backupRequest("web1", s.repository, t.TempDir())
	refused := c.CLI("job", "submit", request)
	if refused.Code == 0 || !strings.Contains(refused.Stderr, "disk") || strings.Count(strings.TrimSpace(refused.Stderr), "\n") > 0 {
		t.Errorf("a submission: exit code %d\n%s", refused.Code, refused.Stderr)
	}
	s.release(t)
	s.awaitBorgsEnd(t)
	free()
	harness.Eventually(t, "the coordinator to be ready again", func() error { return ready(c) })
	s.checkEnd(t)
	if !c.Alive() {
		t.Error("the coordinator has ended")
	}
	c.Await(c.Submit(request).ID, job.Succeeded)
}
