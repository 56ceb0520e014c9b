package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// standbyArgument takes the place of the job directory for a supervisor that
// is started before its job is known.
const standbyArgument = "-"

// standbyPrefix begins the name of a directory that is made before its job is
// known.
const standbyPrefix = ".standby-"

// standbyIdle is how long a standby waits for a job: work comes in bursts, and
// an agent at rest shall not hold a second process.
const standbyIdle = time.Minute

// standby is a supervisor that has come up already, and a directory with all
// its files, which become the next run's: most of the time that a start takes
// is spent on these two.
type standby struct {
	dir  directory
	lock *os.File // of dir, held
	link *os.File // the supervisor waits for a message here
}

// discard ends a standby that is not used.
func (s *standby) discard() {
	s.link.Close() // the supervisor ends
	s.lock.Close()
	_ = os.RemoveAll(string(s.dir)) // what is left, Clean removes
}

// reserve holds at most one standby.
type reserve struct {
	mu     sync.Mutex
	ready  *standby
	timer  *time.Timer
	making sync.WaitGroup
	busy   bool // one is being made
	closed bool
}

// take returns the standby, or nil.
func (r *reserve) take() *standby {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready := r.ready
	r.ready = nil
	if r.timer != nil {
		r.timer.Stop()
	}
	return ready
}

// retire ends the standby, if there is one.
func (r *reserve) retire() {
	if s := r.take(); s != nil {
		s.discard()
	}
}

// refill makes a standby in the background, if there is none.
func (r *reserve) refill(prepare func() (*standby, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.busy || r.ready != nil {
		return
	}
	r.busy = true
	r.making.Go(func() {
		made, err := prepare()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy = false
		if err != nil {
			return // the next start does without, and tells what is wrong
		}
		r.ready = made
		r.timer = time.AfterFunc(standbyIdle, r.retire)
	})
}

func (r *reserve) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.making.Wait()
	r.retire()
}

// prepare makes a standby.
func (l *Local) prepare() (*standby, error) {
	path, err := os.MkdirTemp(l.root, standbyPrefix)
	if err != nil {
		return nil, err
	}
	s := &standby{dir: directory(path)}
	if s.lock, err = s.dir.lock(); err == nil {
		s.dir.prepare()
		if s.link, err = l.standBy(); err == nil {
			return s, nil
		}
		s.lock.Close()
	}
	return nil, errors.Join(err, os.RemoveAll(path))
}

// standBy starts a supervisor that waits for its job.
func (l *Local) standBy() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "standby"), os.NewFile(uintptr(pair[1]), "supervisor")
	defer theirs.Close() // the supervisor has its own
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer null.Close() // the supervisor has its own
	// The places of what comes with the job are taken from the start, so that
	// nothing else of the supervisor gets there.
	if err := l.spawn(standbyArgument, []*os.File{theirs, null, null, null}); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

// handOver gives a standby its job, which it then has to itself.
func (s *standby) handOver(dir directory, input, reporter *os.File) error {
	defer s.link.Close() // all is said
	rights := unix.UnixRights(int(input.Fd()), int(reporter.Fd()), int(s.lock.Fd()))
	return unix.Sendmsg(int(s.link.Fd()), []byte(dir), rights, nil, unix.MSG_NOSIGNAL)
}

// await is the supervisor's side: it waits for a job on descriptor 0 and puts
// what comes with it where a supervisor has it from its start. It returns
// false when there will be none.
func await() (directory, bool) {
	path, oob := make([]byte, syscall.PathMax), make([]byte, unix.CmsgSpace(3*4))
	var n, oobn int
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		n, oobn, _, _, err = unix.Recvmsg(unix.Stdin, path, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil || n == 0 {
		return "", false
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return "", false
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 3 {
		return "", false
	}
	places := []struct{ from, to int }{
		{fds[0], unix.Stdin}, {fds[1], unix.Stdout}, {fds[1], unix.Stderr}, {fds[2], lockFD},
	}
	for _, p := range places {
		if err := unix.Dup3(p.from, p.to, 0); err != nil {
			return "", false
		}
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return directory(path[:n]), true
}
