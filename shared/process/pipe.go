package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outputFile is the pipe that stands in for a program's standard output, while
// it waits for its reader.
const outputFile = "output"

// readerPatience is how long a program waits for the reader of its output
// before it is started.
const readerPatience = time.Minute

// pipeBytes is how far a program may be ahead of its reader, where the system
// allows it.
const pipeBytes = 1 << 20

// How often either side of a pipe looks for the other one.
const (
	pipeFirst   = time.Millisecond
	pipeLongest = 100 * time.Millisecond
)

// ErrNoOutput says that a run's output cannot be read as it comes: the command
// did not ask for a pipe, or another reader has, or had, it.
var ErrNoOutput = errors.New("there is no output to read")

// Output is what a program prints, as it comes. Read returns io.EOF once the
// program, and whoever else it gave its standard output to, has closed it. To
// close it before that ends a program that goes on to print.
type Output interface {
	io.ReadCloser
	// SetReadDeadline lets a Read that finds nothing, and waits, return
	// os.ErrDeadlineExceeded.
	SetReadDeadline(t time.Time) error
}

// Output opens the standard output of a command with Pipe set. It waits for
// Start, which waits for it: call them side by side. There is one reader in the
// life of a run. When it is gone, what it has not read is lost, the program's
// next write fails (EPIPE), and nobody can take its place.
func (l *Local) Output(ctx context.Context, id string) (Output, error) {
	dir, err := l.directory(id)
	if err != nil {
		return nil, err
	}
	for wait := pipeFirst; ; wait = min(2*wait, pipeLongest) {
		fd, err := unix.Open(dir.file(outputFile), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return newReader(fd)
		case !missing(err) && !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("open output: %w", err)
		case dir.begun():
			return nil, ErrNoOutput
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// reader is the agent's end of a pipe. As long as nobody has opened the other
// end, a read would find the pipe at its end; this one waits.
type reader struct {
	file       *os.File // not embedded: it has other ways to be read
	connection syscall.RawConn
}

// SetReadDeadline implements [Output].
func (r *reader) SetReadDeadline(t time.Time) error { return r.file.SetReadDeadline(t) }

// Close implements io.Closer.
func (r *reader) Close() error { return r.file.Close() }

func newReader(fd int) (*reader, error) {
	file := os.NewFile(uintptr(fd), outputFile) // it is non-blocking, so it has deadlines
	connection, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open output: %w", err), file.Close())
	}
	return &reader{file, connection}, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	try := func(fd uintptr) bool {
		n, err = readPipe(int(fd), p)
		return !errors.Is(err, unix.EAGAIN)
	}
	// What is there is read whatever the deadline: that it has passed shall say
	// that there was nothing.
	over := r.connection.Control(func(fd uintptr) { try(fd) })
	if over == nil && errors.Is(err, unix.EAGAIN) {
		over = r.connection.Read(try)
	}
	switch {
	case over != nil: // closed, or the deadline
		return 0, over
	case err != nil:
		return 0, fmt.Errorf("read output: %w", err)
	case n == 0:
		return 0, io.EOF
	default:
		return n, nil
	}
}

// readPipe reads what is there; EAGAIN: nothing yet. It returns 0 bytes only
// when there was a writer, and there is none any more.
func readPipe(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n > 0 {
			return n, err
		}
		state := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(state, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		switch {
		case state[0].Revents&unix.POLLIN != 0: // has just come
		case state[0].Revents != 0:
			return 0, nil
		default:
			return 0, unix.EAGAIN
		}
	}
}

// makePipe makes the pipe, unless it is there from a start that came to nothing.
func (d directory) makePipe() error {
	if err := unix.Mkfifo(d.file(outputFile), 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// connect is the supervisor's side: it waits for the reader and returns the
// writing end, which blocks as a program expects of its standard output. The
// pipe loses its name: a reader that came after this one would miss something.
func (d directory) connect(patience time.Duration) (int, error) {
	until := time.Now().Add(patience)
	for wait := pipeFirst; ; wait = min(2*wait, pipeLongest) {
		fd, err := unix.Open(d.file(outputFile), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeBytes) // it works with less, too
			return fd, errors.Join(unix.Unlink(d.file(outputFile)), unix.SetNonblock(fd, false))
		case !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EINTR): // ENXIO: nobody reads
			return 0, err
		case time.Now().After(until):
			return 0, fmt.Errorf("nobody reads the output: %w", syscall.EPIPE)
		}
		time.Sleep(wait)
	}
}
