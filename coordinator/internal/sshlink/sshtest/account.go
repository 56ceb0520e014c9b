package sshtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account chooses who logs in: who runs the test, or a user made for it.
func (s *Server) account(o Options) {
	s.t.Helper()
	if o.Shell == "" {
		current, err := user.Current()
		s.check(err)
		s.User, s.Home = current.Username, filepath.Join(s.dir, "home")
		s.check(os.Mkdir(s.Home, 0o700))
		return
	}
	if os.Getuid() != 0 {
		s.t.Skip("only root can make users")
	}
	s.User = fmt.Sprintf("sshtest%08x", rand.Uint32())
	s.Home = filepath.Join(s.dir, "home")
	s.run("useradd", "-M", "-d", s.Home, "-s", o.Shell, "-p", "*", s.User)
	s.t.Cleanup(func() {
		endAll(s.User)
		s.run("userdel", "-f", s.User)
	})
	s.check(os.Mkdir(s.Home, 0o700))
	for name, text := range o.Files {
		file := filepath.Join(s.Home, name)
		s.check(os.MkdirAll(filepath.Dir(file), 0o755))
		s.check(os.WriteFile(file, []byte(text), 0o644))
	}
	s.run("chown", "-R", s.User, s.Home)
	if o.Sudo {
		s.sudo()
	}
}

// sudo lets the user become root, until the test ends.
func (s *Server) sudo() {
	s.t.Helper()
	rule := filepath.Join("/etc/sudoers.d", s.User)
	s.t.Cleanup(func() { os.Remove(rule) })
	s.check(os.WriteFile(rule, []byte(s.User+" ALL=(ALL) NOPASSWD: ALL\n"), 0o440))
}

// endAll ends what the user still runs: it was made by the test alone.
func endAll(name string) {
	account, err := user.Lookup(name)
	if err != nil {
		return
	}
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "\nUid:\t"+account.Uid+"\t") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (s *Server) run(name string, args ...string) {
	s.t.Helper()
	if said, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, said)
	}
}
