package faults_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// restoring is a restore test that has chosen its files, and whose borg is about
// to restore them.
var restoring = phase{"restore test", func(s *scene) {
	hold := s.host.starts + ".hold"
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.job = s.ask(job.TestRestore, job.RestoreTestSpec{Archive: book, Files: 20})
	s.child(" extract ")
	if len(s.host.scratch()) != 1 {
		s.t.Errorf("it works in %v", s.host.scratch())
	}
}, (*scene).restore}

// restore lets the borg of a restore test go on.
func (s *scene) restore() {
	s.t.Helper()
	if err := os.Remove(s.host.starts + ".hold"); err != nil {
		s.t.Fatal(err)
	}
}

// scratch are the directories that restore tests have made on a host.
func (h *host) scratch() (found []string) {
	_ = filepath.WalkDir(h.Data, func(path string, entry os.DirEntry, err error) error { // what goes meanwhile is gone
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), "borgfleet-test.") {
			found = append(found, path)
			return filepath.SkipDir
		}
		return nil
	})
	return found
}

// checkScratch looks whether restore tests have left something.
func (w *world) checkScratch(f *finding) {
	for _, h := range w.hosts {
		if !within(func() error {
			if len(h.scratch()) > 0 {
				return errors.New("something is left")
			}
			return nil
		}) {
			f.breach(rests, "host %s: of restore tests there is left %v", h.Host, h.scratch())
		}
	}
}

// testsAgain has a second restore test, which must work.
func testsAgain(s scenario) scenario {
	return then(s, func(s *scene) {
		harness.Eventually(s.t, "the first to be over", s.over)
		next := s.c.Await(s.ask(job.TestRestore, job.RestoreTestSpec{Archive: book, Files: 5}), job.Succeeded)
		if e := next.Result.Evidence; e == nil || e.Files != 5 {
			s.t.Errorf("the next one has seen %+v", e)
		}
	})
}

func restoreTestCases() []scenario {
	killExtract := breakage{"kill", func(s *scene) { signal(s, s.child(" extract "), syscall.SIGKILL) }, 0, nothing}
	cases := func() []scenario {
		return []scenario{
			testsAgain(again(broken("borg", restoring, killExtract))),
			testsAgain(may(ends(cancelIn(restoring, job.Cancelled)), job.TestRestore, job.Cancelled)),
		}
	}
	agent := append(cases(),
		testsAgain(broken("agent", restoring, killAgent)),
		testsAgain(broken("agent", restoring, cutAgent)),
		testsAgain(broken("coordinator", restoring, killCoordinator)),
		testsAgain(again(broken("host", restoring, powerCut))),
	)
	ssh := append(cases(),
		reconnects(testsAgain(broken("link", restoring, cutForLong)), testsAgain(broken("coordinator", restoring, killCoordinator)))...)
	all := append(allShelved(agent), over(direct, allShelved(ssh)...)...)
	return all
}
