package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// overhead is what an ext4 needs for itself, in megabytes: the journal, above all.
const overhead = 6

// blank is what fills disks.
var blank = make([]byte, 1<<20)

// Disk is a small file system of its own. It is an ext4 in a file, so that it
// can fail as real ones do; where only memory can be mounted, it is a tmpfs.
type Disk struct {
	Path string // an empty directory on it

	t      testing.TB
	mount  string
	image  string // its content; empty for a tmpfs
	copies int
	failed bool
}

// Disk makes one. It fails the test where nothing can be mounted.
func (l *Lab) Disk(megabytes int) *Disk {
	l.t.Helper()
	dir := l.t.TempDir()
	d := &Disk{t: l.t, mount: filepath.Join(dir, "disk"), image: filepath.Join(dir, "image")}
	d.Path = filepath.Join(d.mount, "data")
	d.must(os.Mkdir(d.mount, 0o755))
	if err := d.makeExt4(megabytes + overhead); err != nil {
		d.image = ""
		size := fmt.Sprintf("size=%dm", megabytes)
		if e := run("mount", "-t", "tmpfs", "-o", size, "borgfleet-lab", d.mount); e != nil {
			d.t.Fatalf("no disk can be made here: %v", errors.Join(err, e))
		}
	}
	l.t.Cleanup(func() { d.must(syscall.Unmount(d.mount, syscall.MNT_DETACH)) }) // what still has files open keeps them
	d.must(os.Mkdir(d.Path, 0o700))
	return d
}

func (d *Disk) makeExt4(megabytes int) error {
	image, err := os.Create(d.image)
	if err != nil {
		return err
	}
	if err := errors.Join(image.Truncate(int64(megabytes)<<20), image.Close()); err != nil {
		return err
	}
	// Nothing is kept back for root, or for growing.
	err = run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "4096", "-J", "size=4", "-O", "^resize_inode", d.image)
	if err != nil {
		return err
	}
	return d.mountImage()
}

// mountImage mounts the image as most systems do: a disk that fails can be read
// from then on, and not be written.
func (d *Disk) mountImage() error {
	return run("mount", "-t", "ext4", "-o", "loop,errors=remount-ro", d.image, d.mount)
}

// Fill writes until no byte more can be written. What another file has been
// given already it still has.
func (d *Disk) Fill() {
	d.t.Helper()
	file, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	d.must(err)
	defer file.Close()
	for more := true; more; {
		more = false
		for _, size := range []int{1 << 20, 4 << 10, 64, 1} {
			for {
				n, err := file.Write(blank[:size])
				more = more || n > 0
				if errors.Is(err, syscall.ENOSPC) {
					break
				}
				d.must(err)
			}
		}
		d.must(file.Sync()) // an ext4 finds room again that it had put by for this
	}
}

// Free removes what Fill wrote.
func (d *Disk) Free() {
	d.t.Helper()
	d.must(os.Remove(d.filler()))
	d.must(run("sync", "--file-system", d.mount)) // an ext4 gives the room back when that is committed
}

func (d *Disk) filler() string { return filepath.Join(d.mount, "filler") }

// ReadOnly lets the disk fail: every write ends with EROFS from now on, to open
// files too, and what was not synced is lost. That is what programs see of a
// broken disk below an ext4 that is mounted with errors=remount-ro: the kernel
// gives up the journal, here because it is told to. A tmpfs cannot do that
// while a file is open for writing: the test is skipped.
func (d *Disk) ReadOnly() {
	d.t.Helper()
	if d.image != "" {
		d.must(run("mount", "-o", "remount,abort", d.mount))
		d.failed = true
		return
	}
	if err := run("mount", "-o", "remount,ro", d.mount); err != nil {
		d.t.Skipf("a file system that fails under open files needs an ext4, which cannot be mounted here: %v", err)
	}
}

// ReadWrite puts a disk in the failed one's place that holds what had got onto
// it. As with real ones, a program that has files open has the old ones, and
// must be started again.
func (d *Disk) ReadWrite() {
	d.t.Helper()
	if d.image == "" {
		d.must(run("mount", "-o", "remount,rw", d.mount))
		return
	}
	if !d.failed {
		return
	}
	failed := d.image
	d.copies++
	d.image = failed + "." + strconv.Itoa(d.copies)
	d.must(run("cp", "--sparse=always", failed, d.image))
	d.must(syscall.Unmount(d.mount, syscall.MNT_DETACH))
	d.must(os.Remove(failed)) // who has files open on it, has it
	d.must(check(d.image))
	d.must(d.mountImage())
	d.failed = false
}

// check replays the journal and mends what is wrong, which fsck tells with 1.
func check(image string) error {
	out, err := exec.Command("e2fsck", "-fy", image).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	return nil
}

// CorruptTail overwrites the last bytes of a file with noise.
func CorruptTail(t testing.TB, path string, bytes int) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() < int64(bytes) {
		t.Fatalf("%s has %d bytes, not %d to overwrite", path, info.Size(), bytes)
	}
	tail := make([]byte, bytes)
	_, _ = rand.Read(tail) // never fails
	if _, err := file.WriteAt(tail, info.Size()-int64(bytes)); err != nil {
		t.Fatal(err)
	}
}

func (d *Disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("disk %s: %v", d.mount, err)
	}
}

// run runs a command that has to succeed.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
