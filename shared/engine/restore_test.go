package engine_test

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// try runs an attempt to its end, whatever that is.
func (l *lab) try(t *testing.T, spec job.Spec) job.Event {
	t.Helper()
	rec := newRecorder()
	if err := l.Run(t.Context(), l.attempt(t, spec), rec, nil); err != nil {
		t.Fatal(err)
	}
	return rec.finished(t)
}

func TestRealRestore(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 3<<20)
	l.must(t, job.InitSpec{})
	archive := l.must(t, job.BackupSpec{Paths: []string{l.data}}).Archive
	target := filepath.Join(filepath.Dir(l.data), "restored/here")
	spec := job.RestoreSpec{Archive: archive, Target: target, Paths: []string{l.data + "/file"}}
	result := l.must(t, spec)
	if result.Archive != archive || result.Target != target || result.OriginalSize != 3<<20 {
		t.Errorf("result %+v", result)
	}
	was, err := os.ReadFile(filepath.Join(l.data, "file"))
	if err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(target, l.data, "file")
	if is, err := os.ReadFile(restored); err != nil || !bytes.Equal(was, is) {
		t.Errorf("the file is not what it was: %v", err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the target is %v, %v", info, err)
	}

	if err := os.WriteFile(restored, []byte("changed since"), 0o600); err != nil {
		t.Fatal(err)
	}
	if end := l.try(t, spec); end.State != job.Failed || end.Failure.Code != job.TargetNotEmpty || !strings.Contains(end.Failure.Hint, "overwrite") {
		t.Errorf("into what is not empty: %s, %+v", end.State, end.Failure)
	}
	if is, err := os.ReadFile(restored); err != nil || string(is) != "changed since" {
		t.Errorf("what was refused has changed a file: %d bytes, %v", len(is), err)
	}
	spec.Overwrite = true
	l.must(t, spec)
	if is, err := os.ReadFile(restored); err != nil || !bytes.Equal(was, is) {
		t.Errorf("overwrite did not: %v", err)
	}
}

// Nothing is written where a link in the target leads.
func TestRestoreFollowsNoLink(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 1<<10)
	l.must(t, job.InitSpec{})
	archive := l.must(t, job.BackupSpec{Paths: []string{l.data}}).Archive
	outside, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	end := l.try(t, job.RestoreSpec{Archive: archive, Target: link + "/sub", Overwrite: true})
	if end.State != job.Failed || end.Failure.Code != job.InvalidSpec || !strings.Contains(end.Failure.Message, "symbolic link") {
		t.Errorf("ended as %s, %+v", end.State, end.Failure)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("there is %v outside, %v", left, err)
	}
}

func TestRestoreIsCancelled(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 200<<20)
	l.must(t, job.InitSpec{})
	archive := l.must(t, job.BackupSpec{Paths: []string{l.data}}).Archive
	a := l.attempt(t, job.RestoreSpec{Archive: archive, Target: filepath.Join(t.TempDir(), "restored")})
	w, cancel := newWatched(), make(chan struct{})
	wait := l.begin(t, t.Context(), a, w, cancel)
	close(cancel)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if end := w.finished(t); end.State != job.Cancelled || end.Failure.Code != job.CodeCancelled {
		t.Errorf("ended as %s with %+v", end.State, end.Failure)
	}
	l.must(t, job.ListSpec{}) // the lock is free
}

// TestExportedKeyIsNowhereInClear looks for the key in everything that is left
// behind but the repository, and decrypts it again from a second reading.
func TestExportedKeyIsNowhereInClear(t *testing.T) {
	l := newLab(t)
	l.must(t, job.InitSpec{})
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	a, rec := l.attempt(t, job.KeyExportSpec{Recipient: identity.Recipient().String()}), newRecorder()
	for range 2 { // as after a restart of the agent, told again from the start
		rec.events = nil
		if err := l.Run(t.Context(), a, rec, nil); err != nil {
			t.Fatal(err)
		}
	}
	end := rec.finished(t)
	if end.State != job.Succeeded {
		t.Fatalf("ended as %s, %+v", end.State, end.Failure)
	}
	reader, err := age.Decrypt(armor.NewReader(strings.NewReader(end.Result.KeyExport)), identity)
	if err != nil {
		t.Fatal(err)
	}
	key, err := io.ReadAll(reader)
	if err != nil || !bytes.HasPrefix(key, []byte("BORG_KEY ")) {
		t.Fatalf("decrypted %d bytes, %v", len(key), err)
	}
	part := string(bytes.Split(key, []byte("\n"))[2])
	if told, err := json.Marshal(rec.events); err != nil || strings.Contains(string(told), part) {
		t.Errorf("the key is in an event (%v)", err)
	}
	files := 0
	err = filepath.WalkDir(l.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		if content, err := os.ReadFile(path); err != nil || strings.Contains(string(content), part) {
			t.Errorf("the key is in %s (%v)", path, err)
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("walked over %d files: %v", files, err)
	}
}

func TestKeyOfAnUnencryptedRepository(t *testing.T) {
	a, x := compaction(), &scripted{}
	a.Task.Kind, a.Task.Spec = job.KeyExport, job.KeyExportSpec{}
	a.Task.Repository.Encryption = job.Unencrypted
	rec := newRecorder()
	if err := newEngine(x).Run(t.Context(), a, rec, nil); err != nil {
		t.Fatal(err)
	}
	if end := rec.finished(t); end.Failure == nil || end.Failure.Code != job.InvalidSpec || x.starts != 0 {
		t.Errorf("ended as %s, %+v, after %d starts", end.State, end.Failure, x.starts)
	}
}

// Why a target cannot be used is said in the same words by the start and by
// what is found of it later.
func TestUnusableTarget(t *testing.T) {
	restore := func() engine.Attempt {
		a := compaction()
		a.Task.Kind, a.Task.Spec = job.Restore, job.RestoreSpec{Archive: "a", Target: "/srv/x"}
		return a
	}
	for errno, want := range map[syscall.Errno]job.Code{
		syscall.ENOTEMPTY: job.TargetNotEmpty, syscall.ENOTDIR: job.InvalidSpec, syscall.ELOOP: job.InvalidSpec,
		syscall.EACCES: job.PermissionDenied, syscall.EROFS: job.PermissionDenied, syscall.ENOSPC: job.DiskFull, syscall.EIO: job.Internal,
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refused := &process.StartError{Doing: "enter working directory /srv/x", Err: errno, Dir: true}
				for name, x := range map[string]*scripted{
					"at the start": {startErr: []error{refused}},
					"found later":  {exit: process.Exit{Code: -1, StartError: refused.Doing, StartErrno: errno, StartDir: true}, ends: time.Second},
				} {
					rec := newRecorder()
					if err := newEngine(x).Run(t.Context(), restore(), rec, nil); err != nil {
						t.Fatal(err)
					}
					end := rec.finished(t)
					if end.State != job.Failed || end.Failure.Code != want || end.Failure.Hint == "" || !strings.Contains(end.Failure.Message, "/srv/x on web1") {
						t.Errorf("%s: %s, %+v", name, end.State, end.Failure)
					}
				}
			})
		})
	}
}
