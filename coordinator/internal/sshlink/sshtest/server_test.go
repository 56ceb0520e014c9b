package sshtest_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
)

func run(t *testing.T, s *sshtest.Server, command string) (string, error) {
	t.Helper()
	argv := append(strings.Fields(s.RSH()), s.User+"@127.0.0.1", command)
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestServerRunsCommands(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	if out, err := run(t, s, "echo hello"); err != nil || out != "hello" {
		t.Errorf("it answers %q, %v", out, err)
	}
	s.Restart()
	if out, err := run(t, s, "echo again"); err != nil || out != "again" {
		t.Errorf("after a restart it answers %q, %v", out, err)
	}
	s.LetIn()
	if out, err := run(t, s, "echo no"); err == nil {
		t.Errorf("a key that may not log in gets %q", out)
	}
	s.Stop()
	if out, err := run(t, s, "echo no"); err == nil {
		t.Errorf("when it is stopped it answers %q", out)
	}
}

func TestServerHasUsersOfItsOwn(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{Shell: "/bin/sh", Files: map[string]string{"note": "here"}, Sudo: true})
	if out, err := run(t, s, "id -un; cat note; sudo -n id -un"); err != nil || out != s.User+"\nhereroot" {
		t.Errorf("it answers %q, %v", out, err)
	}
}

func TestDropEndsConnections(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	argv := append(strings.Fields(s.RSH()), s.Address[:strings.Index(s.Address, ":")], "echo ready; exec cat")
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if s.Connections() == 0 {
		t.Error("there is no connection")
	}
	s.Drop()
	if err := cmd.Wait(); err == nil {
		t.Error("the client ended as if all were well")
	}
}
