package process

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// enter makes the working directory what the program will have, that of the
// supervisor. The error is a syscall.Errno.
func (p plan) enter() error {
	open := openDir
	if p.MakeDir {
		open = makeDir
	}
	fd, err := open(p.Dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if p.EmptyDir {
		if err := empty(fd); err != nil {
			return err
		}
	}
	return unix.Fchdir(fd)
}

func openDir(dir string) (int, error) {
	return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// makeDir opens a directory that something is going to be written to, and makes
// what is missing of it. It goes from one part of the path to the next without
// following a link, so that the directory it comes to is the one that was
// allowed, however the tree changes meanwhile. What is left: the program itself
// goes by names once it runs. Who may rename directories above this one can
// still lead it elsewhere; the tree below a restore root should be root's.
func makeDir(dir string) (int, error) {
	fd, err := openDir("/")
	if err != nil {
		return -1, err
	}
	for name := range strings.SplitSeq(dir, "/") {
		if name == "" || name == "." {
			continue
		}
		next, err := step(fd, name)
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// step opens a directory in another one, and makes it if it is missing.
func step(parent int, name string) (int, error) {
	if name == ".." {
		return -1, syscall.EINVAL
	}
	const how = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, name, how, 0)
	if !errors.Is(err, syscall.ENOENT) {
		return fd, err
	}
	if err := unix.Mkdirat(parent, name, 0o700); err != nil && !errors.Is(err, syscall.EEXIST) {
		return -1, err
	}
	return unix.Openat(parent, name, how, 0)
}

// empty returns nil if there is nothing in a directory, else ENOTEMPTY.
func empty(dir int) error {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), ".")
	defer file.Close() // read only: nothing to lose
	switch _, err := file.ReadDir(1); {
	case err == nil:
		return syscall.ENOTEMPTY
	case errors.Is(err, io.EOF):
		return nil
	default:
		return cause(err)
	}
}
