package lab

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// Points holds one program, built with the tag faults, at test points, and sets
// its clock. See the package fault for the names, and for what is behind this.
type Points struct {
	Dir string
	t   testing.TB
}

// Points makes them for one program, which may be started again.
func (l *Lab) Points(name string) *Points {
	l.t.Helper()
	dir := filepath.Join(l.t.TempDir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	return &Points{Dir: dir, t: l.t}
}

// Env is what makes a program, and what it starts, look for these points.
func (p *Points) Env() []string { return []string{"BORGFLEET_FAULTS=" + p.Dir} }

// Arm holds the next one that comes to the point.
func (p *Points) Arm(point string) {
	p.t.Helper()
	if _, err := os.Lstat(p.reached(point)); err == nil {
		p.t.Fatalf("arm %s: a program was held there, and not released", point)
	}
	p.write(point, "")
}

// AwaitReached waits until the program is held at the point.
func (p *Points) AwaitReached(point string) {
	p.t.Helper()
	harness.Eventually(p.t, "the point "+point+" to be reached", func() error {
		_, err := os.Lstat(p.reached(point))
		return err
	})
}

// Release lets a held program go on. Call it also after killing one, or when a
// point is not to hold anybody any more.
func (p *Points) Release(point string) {
	p.t.Helper()
	for _, file := range []string{filepath.Join(p.Dir, point), p.reached(point)} { // in this order, or one may slip between
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.t.Fatal(err)
		}
	}
}

// Clock sets the program's clock ahead of the real one, or behind it.
func (p *Points) Clock(ahead time.Duration) {
	p.t.Helper()
	p.write("clock", ahead.String())
}

func (p *Points) reached(point string) string { return filepath.Join(p.Dir, point+".reached") }

// write makes a file appear with its content.
func (p *Points) write(name, text string) {
	p.t.Helper()
	next := filepath.Join(p.Dir, ".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(p.Dir, name)); err != nil {
		p.t.Fatal(err)
	}
}
