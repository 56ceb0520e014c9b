package depot_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func (l *lab) numbers(repository string) (numbers []int) {
	l.t.Helper()
	known, err := l.Transactions(repository)
	l.check(err)
	for _, one := range known {
		numbers = append(numbers, one.Number)
	}
	return numbers
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	if _, err := l.Transactions("none"); err == nil || job.AsFailure(err).Code != job.RepositoryMissing {
		t.Errorf("no repository: %v", err)
	}
	known, err := l.Transactions("vault")
	l.check(err)
	if len(known) < 2 || !slices.IsSortedFunc(known, func(a, b fleet.Transaction) int { return a.Number - b.Number }) {
		t.Fatalf("transactions %v", known)
	}
	for _, one := range known {
		if one.At.Before(template.at) || one.At.After(time.Now()) || one.At.Location() != time.UTC {
			t.Errorf("transaction %d at %s", one.Number, one.At)
		}
	}
	web.do("vault", "create", "REPO::second", "etc")
	if got := l.numbers("vault"); len(got) <= len(known) || got[len(got)-1] <= known[len(known)-1].Number {
		t.Errorf("after another archive: %v, before %v", got, known)
	}
}

// The coordinator's own way to delete leaves no way back behind it.
func TestNoWayBackBehindACompaction(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	web.do("vault", "create", "REPO::second", "etc")
	before := l.numbers("vault")
	l.bulk(filepath.Join(web.dir, "bulk"), 3_000_000)
	web.do("vault", "create", "REPO::third", "bulk")
	middle := l.numbers("vault")
	l.work("vault", true)
	l.Evict("vault")
	l.local("vault", "delete", "REPO::third")
	l.local("vault", "compact", "--threshold=0", "REPO")
	l.work("vault", false)
	after := l.numbers("vault")
	for _, n := range after {
		if slices.Contains(before, n) || slices.Contains(middle, n) {
			t.Errorf("there seems to be a way back to %d: %v, %v, %v", n, before, middle, after)
		}
	}
	if len(after) == 0 {
		t.Fatal("not even the present state is known")
	}
	if err := l.Rollback("vault", before[0]); err == nil || job.AsFailure(err).Code != job.InvalidRequest {
		t.Errorf("rolled back behind it: %v", err)
	}
	web.do("vault", "delete", "REPO::first")
	l.check(l.Rollback("vault", after[len(after)-1]))
	if got := l.archives("vault"); got != "first second" {
		t.Errorf("archives %q", got)
	}
	l.local("vault", "check", "--verify-data", "REPO")
}

func TestRollbackKeepsWhatItUndoes(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	known := l.numbers("vault")
	web.do("vault", "create", "REPO::second", "etc")
	web.do("vault", "create", "REPO::third", "etc")
	all := l.numbers("vault")
	l.check(l.Rollback("vault", all[len(all)-2]))
	l.check(l.Rollback("vault", known[len(known)-1])) // once more, further back
	if got := l.numbers("vault"); !slices.Equal(got, known) {
		t.Errorf("transactions %v, and not %v", got, known)
	}
	aside, err := filepath.Glob(filepath.Join(l.path, ".aside", "vault", "*", "data", "0", "*"))
	l.check(err)
	if len(aside) < 2 {
		t.Errorf("set aside: %v", aside)
	}
	index, _ := filepath.Glob(filepath.Join(l.path, ".aside", "vault", "*", "index.*"))
	notes, _ := filepath.Glob(filepath.Join(l.path, ".aside", "vault", "*", "transactions"))
	if len(index) != 1 || len(notes) != 2 {
		t.Errorf("set aside: %v, %v", index, notes)
	}
	text, err := os.ReadFile(filepath.Join(l.Dir("vault"), "transactions"))
	l.check(err)
	if lines := strings.Count(string(text), "\n"); lines == 0 || lines > len(known) {
		t.Errorf("borg's notes: %s", text)
	}
	if got := l.archives("vault"); got != "first" {
		t.Errorf("archives %q", got)
	}
	if l.locked("vault") {
		t.Error("the repository stayed locked")
	}
}

// A coordinator in a container has the same number in each of its lives.
func TestALockOfAnEarlierLifeIsRemoved(t *testing.T) {
	t.Parallel()
	var lock, other string
	newLabWith(t, func(s *depot.Server) {
		lock = filepath.Join(s.Dir("vault"), "lock.exclusive")
		other = filepath.Join(s.Dir("other"), "lock.exclusive", hostID+".1-0")
		for _, file := range []string{filepath.Join(lock, hostID+"."+strconv.Itoa(os.Getpid())+"-0"), other} {
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	patience.Until(t, "the lock to be removed", func() bool {
		_, err := os.Stat(lock)
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(other); err != nil {
		t.Errorf("the lock of a process that lives: %v", err)
	}
}

func TestRollbackOfWhatIsInUse(t *testing.T) {
	t.Parallel()
	l, _ := filled(t)
	known := l.numbers("vault")
	to := known[0]
	exclusive := filepath.Join(l.Dir("vault"), "lock.exclusive")
	roster := filepath.Join(l.Dir("vault"), "lock.roster")
	dead := "2147483646" // more than the kernel gives
	for name, test := range map[string]struct {
		holder string // of the exclusive lock
		roster string
		free   bool
	}{
		"a process that lives":       {holder: hostID + ".1-0"},
		"a process elsewhere":        {holder: "web1@1.1-0"},
		"a lock without a name":      {holder: "x"},
		"a reader that lives":        {roster: `{"shared": [["` + hostID + `", 1, 0]]}`},
		"a reader elsewhere":         {roster: `{"exclusive": [], "shared": [["web1@1", ` + dead + `, 0]]}`},
		"a roster that is not one":   {roster: "shared"},
		"ourselves, in another life": {holder: hostID + "." + strconv.Itoa(os.Getpid()) + "-0", free: true},
		"a process that is gone":     {holder: hostID + "." + dead + "-0", free: true},
		"a reader that is gone":      {roster: `{"shared": [["` + hostID + `", ` + dead + `, 139]]}`, free: true},
		"a roster with nobody in it": {roster: `{"exclusive": []}`, free: true},
	} {
		t.Run(name, func(t *testing.T) {
			if test.holder != "" {
				l.write(filepath.Join(exclusive, test.holder), "")
			}
			if test.roster != "" {
				l.write(roster, test.roster)
			}
			err := l.Rollback("vault", to)
			switch {
			case test.free && err != nil:
				t.Errorf("refused: %v", err)
			case !test.free && err == nil:
				t.Error("rolled back")
			}
			if _, err := os.Stat(filepath.Join(exclusive, test.holder)); test.holder != "" && (err == nil) == test.free {
				t.Errorf("the lock that was there: %v", err)
			}
			l.check(os.RemoveAll(exclusive))
			l.check(os.RemoveAll(roster))
			if !test.free {
				if got := l.numbers("vault"); !slices.Equal(got, known) {
					t.Errorf("something was rolled back: %v, and not %v", got, known)
				}
			}
		})
		known = l.numbers("vault")
	}
}
