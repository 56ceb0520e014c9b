package lab_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

// program is a process whose output lines a test waits for.
type program struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended
	err   error         // then: how

	mu     sync.Mutex
	lines  []string
	stderr bytes.Buffer
}

// start starts a program on a machine; nil is the hub.
func start(t testing.TB, m *lab.Machine, env []string, argv ...string) *program {
	t.Helper()
	if m != nil {
		argv = append(m.Prefix(), argv...)
	}
	p := &program{t: t, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		p.stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			p.mu.Unlock()
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// act starts one of the programs of main_test.go.
func act(t testing.TB, m *lab.Machine, as, address string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, m, []string{actor + "=" + as}, self, address)
}

func (p *program) say(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, line); err != nil {
		p.t.Fatal(err)
	}
}

// heard returns how many lines have come.
func (p *program) heard() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

// await waits for the line with an index.
func (p *program) await(index int) string {
	p.t.Helper()
	harness.Eventually(p.t, fmt.Sprintf("line %d", index), func() error {
		select {
		case <-p.done:
			if p.heard() <= index {
				p.t.Fatalf("the program ended (%v): %s", p.err, p.stderr.String())
			}
		default:
		}
		if n := p.heard(); n <= index {
			return fmt.Errorf("%d have come", n)
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines[index]
}

// peer is a server on the hub that takes connections one by one and has their
// other ends in the test's hands.
type peer struct {
	t        testing.TB
	listener net.Listener
	incoming chan net.Conn
}

func listen(t testing.TB, l *lab.Lab) *peer {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(l.Hub(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, listener: listener, incoming: make(chan net.Conn, 16)}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			p.incoming <- c
		}
	}()
	return p
}

func (p *peer) address() string { return p.listener.Addr().String() }

// accept returns the next connection, and the lines that come on it.
func (p *peer) accept() *end {
	p.t.Helper()
	e := &end{Conn: <-p.incoming, done: make(chan struct{})}
	p.t.Cleanup(func() { _ = e.Close() })
	go func() {
		defer close(e.done)
		lines := bufio.NewScanner(e.Conn)
		for lines.Scan() {
			e.mu.Lock()
			e.lines = append(e.lines, lines.Text())
			e.mu.Unlock()
		}
		e.err = lines.Err()
	}()
	return e
}

// end is the hub's end of a connection.
type end struct {
	net.Conn
	done chan struct{} // closed when nothing more can come
	err  error         // then: nil after an orderly close

	mu    sync.Mutex
	lines []string
}

func (e *end) heard() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lines)
}

func (e *end) await(t testing.TB, n int) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%d lines at the hub", n), func() error {
		if heard := e.heard(); heard < n {
			return fmt.Errorf("%d have come", heard)
		}
		return nil
	})
}
