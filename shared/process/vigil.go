package process

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// vigil waits for the end of a run's program, so that a follower need not look
// often to be quick at the end. It only hurries the follower; what is true is
// what the directory says. The zero value has not begun.
type vigil struct {
	ended chan struct{} // closed when the program has ended; nil: unknown, or told already
	file  *os.File      // the program's pidfd; nil: none
	begun bool
	hurry time.Duration // the next delay after the end; 0 before it
}

// begin looks whose end to wait for, once that is known. A system that cannot
// tell (Linux before 5.10) leaves the follower to its looking.
func (v *vigil) begin(dir directory) {
	if v.begun {
		return
	}
	var program identity
	if ok, err := dir.read(startedFile, &program); err != nil || !ok || program.PID <= 0 {
		return
	}
	v.begun = true
	fd, err := unix.PidfdOpen(program.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return
	}
	v.file = os.NewFile(uintptr(fd), "pidfd")
	if alive, err := program.alive(); err != nil || !alive { // another process may have its number
		return
	}
	connection, err := v.file.SyscallConn()
	if err != nil {
		return
	}
	ended := make(chan struct{})
	v.ended = ended
	go func() {
		// The error is that of a file that close has closed.
		_ = connection.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
		close(ended)
	}()
}

// fired is called when the end was told.
func (v *vigil) fired() { v.ended, v.hurry = nil, followEnd }

// delay returns how long the follower may wait when nothing has come for some
// time.
func (v *vigil) delay(silence time.Duration) time.Duration {
	if v.hurry > 0 {
		v.hurry = min(2*v.hurry, followQuiet)
		return v.hurry / 2
	}
	return min(max(silence/8, followBusy), followQuiet)
}

func (v *vigil) close() {
	if v.file != nil {
		v.file.Close() // ends the wait
	}
}
