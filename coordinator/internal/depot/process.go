package depot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// A borg serve lets its locks go when its input ends, unless it is in the middle
// of something long. It gets this much time for each step of being ended.
const (
	inputGrace = 3 * time.Second
	termGrace  = 5 * time.Second
)

// minQuota is the least that borg takes.
const minQuota = 10_000_000

// process is a borg serve.
type process struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output io.Reader
	errors io.Reader

	mu     sync.Mutex
	reaped bool // its id may be another process's
}

// command returns what runs for a grant. Nothing in it comes from a client.
func (s *Server) command(grant fleet.DepotGrant) *exec.Cmd {
	argv := []string{"serve", "--umask=077", "--restrict-to-repository", s.Dir(grant.Repository)}
	if grant.AppendOnly {
		argv = append(argv, "--append-only")
	}
	if grant.Quota > 0 {
		argv = append(argv, "--storage-quota", strconv.FormatInt(max(grant.Quota, minQuota), 10))
	}
	cmd := exec.Command(s.options.Borg, argv...)
	cmd.Dir = s.options.Path // a URL says where in here
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + s.options.BaseDir,
		"LC_ALL=C.UTF-8",
		"BORG_BASE_DIR=" + s.options.BaseDir,
		"BORG_HOST_ID=" + s.options.HostID,
		"BORG_SELFTEST=disabled", // a tenth of a second for each connection
		"BORG_SHOW_SYSINFO=no",   // in what a host is told of errors
	}
	// None outlives the coordinator: what a client has asked for, and is not done
	// yet, would else go on when the next one knows of no visit. Threads of Go end
	// with the process. It is asked to end, so that it lets its lock go.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return cmd
}

// start runs borg serve.
func (s *Server) start(grant fleet.DepotGrant) (*process, error) {
	cmd := s.command(grant)
	input, err1 := cmd.StdinPipe()
	output, err2 := cmd.StdoutPipe()
	errs, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("pipes to borg serve: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run borg serve: %w", err)
	}
	return &process{cmd: cmd, input: input, output: output, errors: errs}, nil
}

// wait returns borg's exit status when it is gone, and sees to it that it goes
// once over is done.
func (p *process) wait(over context.Context) int {
	gone := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-over.Done():
			p.end(gone)
		case <-gone:
		}
	}()
	for { // leaves it as it is, so that its id stays its own
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	p.reaped = true
	state, err := p.cmd.Process.Wait()
	p.mu.Unlock()
	close(gone)
	<-ended
	if err != nil {
		return refusedCode
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// end ends borg, ever less gently, until gone is closed.
func (p *process) end(gone <-chan struct{}) {
	p.input.Close()
	for _, step := range []struct {
		after  time.Duration
		signal syscall.Signal
	}{{inputGrace, syscall.SIGTERM}, {termGrace, syscall.SIGKILL}} {
		select {
		case <-gone:
			return
		case <-time.After(step.after):
			p.signal(step.signal)
		}
	}
	<-gone
}

func (p *process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		syscall.Kill(-p.cmd.Process.Pid, signal)
	}
}
