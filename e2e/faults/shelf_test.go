package faults_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// The archives of a shelf: one that is read, and some that look like backups of
// the first host, so that it may prune them.
const (
	book     = "book"
	pamphlet = "web1-2026-01-0%dT00:00:00" // 1 to pamphlets
	// pamphlets are enough that a prune is preceded by a dry run that counts.
	pamphlets = 6
	// bookFiles make a listing longer than the pipe between borg and the agent
	// and the first piece together, so that borg waits for its reader.
	bookFiles = 1500
	// largeSize is more than all buffers on the way of a download hold.
	largeSize = 20 << 20
)

// shelf is a repository to copy that holds archives, and what is in them.
type shelf struct {
	repository string
	archives   []string
	paths      []string // of the book, as borg lists them
	large      string   // the large file, as the book has it
	content    []byte   // of it
}

// fullShelf returns the shelf that cases get copies of.
func fullShelf(t testing.TB) shelf {
	t.Helper()
	empty := template(t)
	made.Lock()
	defer made.Unlock()
	if made.shelf.repository == "" {
		made.shelf = makeShelf(t, empty, made.dir)
	}
	return made.shelf
}

func makeShelf(t testing.TB, empty, dir string) shelf {
	t.Helper()
	repository := filepath.Join(dir, "shelf")
	if err := os.CopyFS(repository, os.DirFS(empty)); err != nil {
		t.Fatal(err)
	}
	return fillShelf(t, repository)
}

// fillShelf puts the book and the pamphlets into an empty repository.
func fillShelf(t testing.TB, repository string) shelf {
	t.Helper()
	s := shelf{repository: repository}
	files := t.TempDir()
	harness.MakeTree(t, files, bookFiles, 64)
	harness.MakeTree(t, filepath.Join(files, "large"), 1, largeSize)
	large := filepath.Join(files, "large", "d000", "f00000.bin")
	content, err := os.ReadFile(large)
	if err != nil {
		t.Fatal(err)
	}
	s.large, s.content = strings.TrimPrefix(large, "/"), content
	env := []string{"BORG_PASSPHRASE=" + passphrase, "BORG_BASE_DIR=" + t.TempDir(), "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "LC_ALL=C.UTF-8"}
	borg := func(args ...string) string {
		r := harness.Run(t, env, "borg", args...)
		if r.Code != 0 {
			t.Fatalf("borg %v: %s", args, r.Stderr)
		}
		return r.Stdout
	}
	borg("create", "--compression", "none", s.repository+"::"+book, files)
	s.archives = []string{book}
	for i := range pamphlets {
		name := fmt.Sprintf(pamphlet, i+1)
		borg("create", "--timestamp", fmt.Sprintf("2026-01-0%dT00:00:00", i+1), s.repository+"::"+name, filepath.Join(files, "d000", "f00000.bin"))
		s.archives = append(s.archives, name)
	}
	s.paths = strings.Split(strings.TrimSuffix(borg("list", "--format", "{path}{NL}", s.repository+"::"+book), "\n"), "\n")
	slices.Sort(s.paths)
	return s
}

// stock lets the coordinator know what is on the shelf.
func (w *world) stock() {
	w.t.Helper()
	for _, r := range w.repos {
		w.c.Await(w.askOf(w.hosts[0], r, job.List, job.ListSpec{}), job.Succeeded)
	}
}

// shelved gives a scenario a repository with archives.
func shelved(s scenario) scenario {
	s.options = func(testing.TB) options { return options{shelf: true, external: strings.HasPrefix(s.name, "external")} }
	return s
}

// Phases of jobs that read or remove what is on the shelf.
var (
	// listing is a borg that waits for the reader of what it lists.
	listing = reads("listing", job.ListSpec{Archive: book})
	// listed is a short listing whose borg has ended, and of which nobody has read.
	listed = reads("listed", job.ListSpec{Archive: fmt.Sprintf(pamphlet, 1)})
	// downloading is a client that has some of a file, and does not hurry.
	downloading = phase{"download", func(s *scene) { s.download = s.open(0) }, nothing}
	// mounted is an archive that can be used.
	mounted = phase{"mounted", func(s *scene) { s.mount(0) }, nothing}
	// previewing is a dry run before a prune whose end the coordinator does not know.
	previewing = phase{"dry run done, untold", func(s *scene) {
		s.list()
		s.host.points.Arm(fault.FinishedJournaled)
		s.job = s.prune()
		s.host.points.AwaitReached(fault.FinishedJournaled)
	}, func(s *scene) { s.host.points.Release(fault.FinishedJournaled) }}
	// previewed is a prune that may go on after its dry run, and whose order has not left.
	previewed = phase{"between dry run and prune", func(s *scene) {
		s.list()
		s.host.points.Arm(fault.FinishedJournaled)
		s.job = s.prune()
		s.host.points.AwaitReached(fault.FinishedJournaled)
		s.points.Arm(fault.OrderStored)
		s.host.points.Release(fault.FinishedJournaled)
		s.points.AwaitReached(fault.OrderStored)
	}, func(s *scene) { s.points.Release(fault.OrderStored) }}
)

// reads is a content listing of which a piece is read and not handed out.
func reads(name string, spec job.ListSpec) phase {
	return phase{name, func(s *scene) {
		s.host.points.Arm(fault.PieceRead)
		s.job = s.ask(job.List, spec)
		s.host.points.AwaitReached(fault.PieceRead)
	}, func(s *scene) { s.host.points.Release(fault.PieceRead) }}
}

// deletingAt is a delete, with the agent held at a point.
func deletingAt(name, point string) phase {
	return phase{name, func(s *scene) {
		s.list()
		s.host.points.Arm(point)
		s.job = s.deletePamphlets()
		s.host.points.AwaitReached(point)
	}, func(s *scene) { s.host.points.Release(point) }}
}

// deletingHere is a delete that is done, with the coordinator held at a point.
func deletingHere(name, point string) phase {
	return phase{name, func(s *scene) {
		s.list()
		s.host.points.Arm(fault.FinishedJournaled)
		s.job = s.deletePamphlets()
		s.host.points.AwaitReached(fault.FinishedJournaled)
		s.points.Arm(point)
		s.host.points.Release(fault.FinishedJournaled)
		s.points.AwaitReached(point)
	}, func(s *scene) { s.points.Release(point) }}
}

// deletePamphlets asks for a delete of two archives.
func (s *scene) deletePamphlets() job.ID {
	s.t.Helper()
	return s.ask(job.Delete, job.DeleteSpec{Archives: []string{fmt.Sprintf(pamphlet, 1), fmt.Sprintf(pamphlet, 2)}})
}

// prune asks for a prune that leaves all pamphlets but two.
func (s *scene) prune() job.ID {
	s.t.Helper()
	return s.ask(job.Prune, job.PruneSpec{KeepLast: pamphlets - 2})
}

// list has the files of a pamphlet listed that will go.
func (s *scene) list() {
	s.t.Helper()
	first := fmt.Sprintf(pamphlet, 1)
	s.c.Await(s.ask(job.List, job.ListSpec{Archive: first}), job.Succeeded)
	harness.Eventually(s.t, "archive "+first+" to be listed", func() error {
		var page struct{ Files []any }
		return s.c.Get("/api/v1/repositories/"+s.repo.name+"/archives/"+first+"/files", &page)
	})
}

// mount mounts the book and waits until it can be used. It is unmounted after
// idle seconds without use; 0: the default.
func (s *scene) mount(idle int) {
	s.t.Helper()
	s.at = filepath.Join(s.host.restore, "mnt")
	s.job = s.ask(job.Mount, job.MountSpec{Archive: book, MountPoint: s.at, Idle: idle})
	harness.Eventually(s.t, "the mount", func() error {
		j := s.c.Job(s.job)
		if j.State.Terminal() {
			s.t.Fatalf("it ended too early: %s (%v)", j.State, j.Failure)
		}
		if j.Progress == nil || j.Progress.Phase != job.PhaseMounted {
			return errors.New("it cannot be used")
		}
		return nil
	})
}

// readMounted reads what is mounted, which must be right.
func (s *scene) readMounted() {
	s.t.Helper()
	if entries, err := os.ReadDir(s.at); err != nil || len(entries) != 1 {
		s.t.Errorf("the mount has %d entries, %v", len(entries), err)
	}
}

// umount unmounts, as a job.
func (s *scene) umount() {
	s.t.Helper()
	id := s.askOf(s.host, &repository{}, job.Umount, job.UmountSpec{MountPoint: s.at})
	s.c.Await(id, job.Succeeded)
	s.is(job.Succeeded, job.Failed)
}

// mountBorg returns the borg that serves the mount; its parent is the program
// around it.
func (s *scene) mountBorg() int {
	s.t.Helper()
	script := s.borgPID()
	for _, pid := range s.host.borgs() {
		if parent(pid) == script && strings.Contains(commandLine(pid), " mount ") {
			return pid
		}
	}
	s.t.Fatal("no borg serves the mount")
	return 0
}

func commandLine(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // gone: it has none
	return strings.ReplaceAll(string(data), "\x00", " ")
}

// Faults of the borg that serves a mount, and of all that has to do with it.
var (
	killMountBorg = breakage{"kill", func(s *scene) { signal(s, s.mountBorg(), syscall.SIGKILL) }, 0, nothing}
	stopMountBorg = breakage{"stop", func(s *scene) { signal(s, s.mountBorg(), syscall.SIGSTOP) }, shortStop, func(s *scene) { signal(s, s.mountBorg(), syscall.SIGCONT) }}
	powerCut      = breakage{"power cut", func(s *scene) { s.host.Kill(); s.host.killRuns() }, 0, func(s *scene) { s.host.Restart() }}
)
