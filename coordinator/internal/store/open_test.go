package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

func wantFailure(t *testing.T, err error, code job.Code, says string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok {
		t.Fatalf("error %v is not a failure", err)
	}
	if failure.Code != code || !strings.Contains(failure.Message, says) || failure.Hint == "" {
		t.Errorf("failure %q (%s), want %s and %q and a hint", failure, failure.Code, code, says)
	}
}

func openError(t *testing.T, path string) error {
	t.Helper()
	s, err := store.Open(path, hclog.NewNullLogger())
	if err == nil {
		t.Fatal("Open succeeded", s.Close())
	}
	return err
}

func TestOpenRefusesASecondCoordinator(t *testing.T) {
	file := path(t)
	s := openAt(t, file)
	err := openError(t, file)
	wantFailure(t, err, job.Conflict, "already in use by another coordinator")
	if !strings.Contains(err.Error(), filepath.Dir(file)) {
		t.Errorf("%v does not name the directory", err)
	}
	apply(t, s, store.CreateJob(newJob(0))) // the first one is not disturbed
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	file := path(t)
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		return meta.Put([]byte("schema"), binary.BigEndian.AppendUint64(nil, 99))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before := read(t, file)
	wantFailure(t, openError(t, file), job.Conflict, "newer borgfleet (schema 99; this one knows 4)")
	if !bytes.Equal(before, read(t, file)) {
		t.Error("the newer database was changed")
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOpenRefusesWhatIsNoDatabase(t *testing.T) {
	file := path(t)
	content := bytes.Repeat([]byte("this is not a database\n"), 1000)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, openError(t, file), job.Unavailable, "damaged or is not a borgfleet database")
	if !bytes.Equal(content, read(t, file)) {
		t.Error("the file was changed")
	}
	wantFailure(t, openError(t, t.TempDir()), job.Unavailable, "is not a database file")
	wantFailure(t, openError(t, filepath.Join(t.TempDir(), "none", "borgfleet.db")), job.Unavailable, "does not exist")
}

// TestOpenSaysThatAFileIsDamaged spoils every page of a database in turn. What
// it may not do is bring the coordinator down with a panic or a fault.
func TestOpenSaysThatAFileIsDamaged(t *testing.T) {
	file := path(t)
	s, err := store.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		apply(t, s, store.CreateJob(newJob(i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, page := read(t, file), os.Getpagesize()
	used := len(bytes.TrimRight(good, "\x00"))/page + 1
	for name, spoil := range map[string]func(at int) []byte{
		"cut short": func(at int) []byte { return good[:at] },
		"zeroes":    func(at int) []byte { return slices.Concat(good[:at], make([]byte, page), good[at+page:]) },
		"ones":      func(at int) []byte { return slices.Concat(good[:at], bytes.Repeat([]byte{0xff}, page), good[at+page:]) },
		"another page": func(at int) []byte {
			other := (at/page + 3) % used * page
			return slices.Concat(good[:at], good[other:other+page], good[at+page:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused := 0
			for n := 1; n < used; n++ {
				spoiled := path(t)
				if err := os.WriteFile(spoiled, spoil(n*page), 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := store.Open(spoiled, hclog.NewNullLogger())
				if err == nil { // the page was a free one
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					continue
				}
				refused++
				wantFailure(t, err, job.Unavailable, "damaged or is not a borgfleet database")
			}
			if refused == 0 {
				t.Error("no damage was found")
			}
		})
	}
}

// asNobody runs f on a thread that has no rights beyond those of an ordinary
// user, so that the test also tells something when root runs it.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Getuid() == 0 {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			_, _ = unix.SetfsuidRetUid(65534)
		}
		f()
	}()
	<-done
}

func TestOpenNeedsAWritableDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	asNobody(func() {
		_, err := store.Open(filepath.Join(dir, "borgfleet.db"), hclog.NewNullLogger())
		failure, ok := errors.AsType[*job.Failure](err)
		if !ok || failure.Code != job.NotAllowed || !strings.Contains(failure.Message, dir) || failure.Hint == "" {
			t.Errorf("Open = %v", err)
		}
	})
}

func TestFileIsPrivate(t *testing.T) {
	mode := func(file string) os.FileMode {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	file := path(t)
	first, err := store.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if got := mode(file); got != 0o600 {
		t.Errorf("new file has mode %o", got)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	openAt(t, file)
	if got := mode(file); got != 0o600 {
		t.Errorf("file that was open to others has mode %o", got)
	}
}

func TestSnapshotIsADatabase(t *testing.T) {
	s := open(t)
	want := newJob(0)
	apply(t, s, store.CreateJob(want), store.PutSecret("x", []byte{1, 2}))
	var buffer bytes.Buffer
	n, err := s.Snapshot(&buffer)
	if err != nil || n != int64(buffer.Len()) {
		t.Fatalf("Snapshot = %d, %v; wrote %d", n, err, buffer.Len())
	}
	apply(t, s, store.CreateJob(newJob(1))) // not in the snapshot
	file := path(t)
	if err := os.WriteFile(file, buffer.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	restored := openAt(t, file)
	if err := restored.Check(); err != nil {
		t.Error(err)
	}
	page, err := restored.Jobs(job.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]job.Job{want}, page.Jobs); diff != "" {
		t.Error(diff)
	}
}

// TestFullDisk lowers the largest size that a file may have, which gives the
// same errors from the same calls as a full disk.
func TestFullDisk(t *testing.T) {
	s := open(t)
	small := newJob(0)
	apply(t, s, store.CreateJob(small))
	big := newJob(1)
	big.Spec = job.BackupSpec{Paths: []string{"/" + strings.Repeat("x", 40_000)}}
	var changes []store.Change
	for i := range 200 {
		j := big
		j.ID = newJob(i + 1).ID
		changes = append(changes, store.CreateJob(j))
	}

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	lowered := limit
	lowered.Cur = 4 << 20 // more than go test's own files have
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lowered); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply(changes...)
	unhealthy := s.Healthy()
	if restored := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); restored != nil {
		t.Fatal(restored)
	}

	if !errors.Is(err, store.ErrAmbiguous) {
		t.Errorf("Apply on a full disk = %v", err)
	}
	if unhealthy == nil {
		t.Error("the store calls itself healthy")
	}
	if _, ok, err := s.Job(small.ID); err != nil || !ok {
		t.Errorf("Job after a full disk = %v, %v", ok, err)
	}
	apply(t, s, changes...) // there is space again
	if err := errors.Join(s.Healthy(), s.Check()); err != nil {
		t.Error(err)
	}
}
