package sshtest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Restart starts the server where it was, after it was stopped; it is stopped
// first if it runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	s.check(err)
	defer log.Close()
	cmd := exec.Command(program, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.check(cmd.Start())
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
	s.answers()
}

// Stop ends the server and its connections at once. What was started over them
// lives on, unless the end of its input or output ends it.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	connections := s.connections()
	s.cmd.Process.Kill()
	s.cmd.Wait()
	signal(connections, syscall.SIGKILL)
	s.cmd = nil
}

// Drop ends every connection at once; the server goes on.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	signal(s.connections(), syscall.SIGKILL)
}

// Freeze stops the server and its connections without closing any: peers see
// silence. Thaw lets them go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

// Connections is how many processes of the server serve connections: one or two
// for each.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections())
}

// signal reaches the server and its connections.
func (s *Server) signal(what syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		signal(append(s.connections(), s.cmd.Process.Pid), what)
	}
}

// connections returns the server's descendants that are sshd's own, not what
// they have started. The caller holds the lock.
func (s *Server) connections() []int {
	if s.cmd == nil {
		return nil
	}
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		if pid, parent, ok := process(file); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var found []int
	for todo := []int{s.cmd.Process.Pid}; len(todo) > 0; todo = todo[1:] {
		found = append(found, children[todo[0]]...)
		todo = append(todo, children[todo[0]]...)
	}
	return found
}

// process reads a stat file of /proc, and says no to what is not an sshd.
func process(file string) (pid, parent int, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, false
	}
	opening, closing := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if opening < 0 || closing < 0 || !bytes.HasPrefix(text[opening+1:closing], []byte("sshd")) {
		return 0, 0, false
	}
	fields := strings.Fields(string(text[closing+1:]))
	pid, first := strconv.Atoi(strings.TrimSpace(string(text[:opening])))
	parent, second := strconv.Atoi(fields[1])
	return pid, parent, errors.Join(first, second) == nil
}

func signal(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		syscall.Kill(pid, s) // it may be gone
	}
}
