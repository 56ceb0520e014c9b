package borg_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

const borgBinary = "/usr/bin/borg"

// lab is a directory of its own in which real borg works:
// data/ is backed up, repo/ is the repository, base/ is borg's.
type lab struct {
	t    *testing.T
	root string
	env  borg.Environment
	pass string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	root := t.TempDir()
	l := &lab{t: t, root: root, pass: "correct horse", env: borg.Environment{
		Binary: borgBinary, BaseDir: filepath.Join(root, "base"), HostID: "host-under-test", LockWait: time.Second,
	}}
	l.write("data/etc/motd", []byte("welcome\n"))
	l.write("data/etc/hosts", []byte("127.0.0.1 localhost\n"))
	l.write("data/www/random.bin", noise(300_000))
	return l
}

// newLabWith returns a lab with a copy of another one's repository, and with
// what borg remembers of it.
func newLabWith(t *testing.T, made *lab) *lab {
	t.Helper()
	l := newLab(t)
	for _, dir := range []string{"repo", "base"} {
		if err := os.CopyFS(filepath.Join(l.root, dir), os.DirFS(filepath.Join(made.root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{"base/.config/borg/security/*/location", "base/.cache/borg/*/config"} {
		paths, err := filepath.Glob(filepath.Join(l.root, pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("%s: %q, %v", pattern, paths, err)
		}
		text, err := os.ReadFile(paths[0])
		if err != nil || !bytes.Contains(text, []byte(made.root)) {
			t.Fatalf("where the repository was is not in %q (%v)", text, err)
		}
		if err := os.WriteFile(paths[0], bytes.ReplaceAll(text, []byte(made.root), []byte(l.root)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.Read(data) // documented never to fail
	return data
}

func (l *lab) write(name string, data []byte) {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// script writes an executable shell script and returns its path.
func (l *lab) script(name, body string) string {
	l.t.Helper()
	// A process that another test starts meanwhile would hold the file open for
	// writing for a moment, and nobody could run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l.write(name, []byte("#!/bin/sh\n"+body+"\n"))
	path := filepath.Join(l.root, name)
	if err := os.Chmod(path, 0o700); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// command returns borg's process for a task, with the passphrase on file
// descriptor 3 as the process package hands it over.
func (l *lab) command(task borg.Task) (cmd *exec.Cmd, passphrase *os.File) {
	l.t.Helper()
	argv, environ, err := borg.Command(task, l.env)
	if err != nil {
		l.t.Fatal(err)
	}
	cmd = exec.Command(argv[0], argv[1:]...)
	// Without its self-test borg takes a quarter less: it is run very often here.
	cmd.Env = append(append(borg.Inherit(os.Environ()), environ...), "BORG_SELFTEST=disabled")
	cmd.Dir = l.root
	if restore, ok := task.Spec.(job.RestoreSpec); ok && restore.ContentTo == "" {
		cmd.Dir = restore.Target
		if err := os.MkdirAll(cmd.Dir, 0o700); err != nil {
			l.t.Fatal(err)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !task.Encrypted {
		return cmd, nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.WriteString(write, l.pass+"\n"); err != nil {
		l.t.Fatal(err)
	}
	write.Close()
	cmd.ExtraFiles = []*os.File{read}
	cmd.Env = append(cmd.Env, "BORG_PASSPHRASE_FD=3")
	return cmd, read
}

// recording is what one run of borg left behind.
type recording struct {
	stdout, stderr []byte
	exit           borg.Exit
}

// run runs a task to its end. onStderr, if not nil, sees the process and every
// chunk of standard error as it comes.
func (l *lab) run(task borg.Task, onStderr func(process *os.Process, chunk []byte)) recording {
	l.t.Helper()
	cmd, passphrase := l.command(task)
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if passphrase != nil {
		passphrase.Close()
	}
	var said []byte
	buffer := make([]byte, 4096)
	for {
		n, err := stderr.Read(buffer)
		if n > 0 && onStderr != nil {
			onStderr(cmd.Process, buffer[:n])
		}
		said = append(said, buffer[:n]...)
		if err != nil {
			break
		}
	}
	exit := wait(l.t, cmd)
	if export, ok := task.Spec.(job.KeyExportSpec); ok && out.Len() > 0 {
		return recording{stdout: sealed(l.t, out.Bytes(), export.Recipient), stderr: said, exit: exit}
	}
	return recording{stdout: out.Bytes(), stderr: said, exit: exit}
}

func wait(t *testing.T, cmd *exec.Cmd) borg.Exit {
	t.Helper()
	err := cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return borg.Exit{Signal: status.Signal(), Duration: time.Second}
	}
	return borg.Exit{Code: status.ExitStatus(), Duration: time.Second}
}

// must runs a task that has to end well.
func (l *lab) must(task borg.Task) job.Outcome {
	l.t.Helper()
	r := l.run(task, nil)
	parser := borg.NewParser(task)
	parser.Stdout(r.stdout)
	parser.Stderr(r.stderr)
	outcome := parser.Finish(r.exit)
	if outcome.State != job.Succeeded {
		l.t.Fatalf("%s: %s, %v\n%s", task.Kind, outcome.State, outcome.Failure, r.stderr)
	}
	return outcome
}
