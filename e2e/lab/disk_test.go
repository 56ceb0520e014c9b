package lab_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/lab"
)

func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := lab.New(t).Disk(8)
	file := filepath.Join(d.Path, "file")
	write := func() error { return os.WriteFile(file, make([]byte, 5<<20), 0o600) }
	for range 2 {
		if err := write(); err != nil {
			t.Fatalf("the empty disk: %v", err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		d.Fill()
		if err := write(); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the full disk: %v", err)
		}
		if info, err := os.Stat(file); err == nil && info.Size() > 0 {
			t.Errorf("%d bytes got onto the full disk", info.Size())
		}
		d.Free()
	}
}

func TestFailedDisk(t *testing.T) {
	t.Parallel()
	d := lab.New(t).Disk(8)
	path := filepath.Join(d.Path, "file")
	for _, content := range []string{"once", "once more"} {
		open, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		if _, err := open.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if err := open.Sync(); err != nil {
			t.Fatal(err)
		}
		d.ReadOnly()
		if _, err := open.WriteString("too late"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("write to an open file of the failed disk: %v", err)
		}
		if _, err := os.Create(path + ".new"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("a new file on the failed disk: %v", err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("the failed disk holds %q (%v)", data, err)
		}
		d.ReadWrite()
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("the new disk holds %q (%v)", data, err)
		}
		if _, err := open.WriteString("far too late"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("write to a file of the failed disk that is still open: %v", err)
		}
	}
}

func TestCorruptTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	whole := bytes.Repeat([]byte{0}, 1000)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	lab.CorruptTail(t, path, 100)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 1000 || !bytes.Equal(data[:900], whole[:900]) || bytes.Equal(data[900:], whole[900:]) {
		t.Errorf("%d bytes, of which the last are %x", len(data), data[900:])
	}
}
