package enginetest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// folder returns a directory without links in its path.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func directoryIsMade(t *testing.T, x engine.Executor) {
	dir := folder(t)
	command := Shell("job.1", `pwd; echo >file`)
	command.Dir, command.MakeDir, command.EmptyDir = dir+"/a//b/", true, true
	Start(t, x, command, secret.Value{})
	if _, got := Follow(t, x, "job.1", process.Offsets{}); got.Stdout.String() != dir+"/a/b\n" {
		t.Errorf("the program ran in %q", got.Stdout.String())
	}
	for _, made := range []string{"a", "a/b"} {
		if info, err := os.Stat(filepath.Join(dir, made)); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", made, info, err)
		}
	}
	if _, err := os.Stat(dir + "/a/b/file"); err != nil {
		t.Error(err)
	}
}

// refusesDirectory expects that a command is not started because of its
// directory, and that a later follower learns the same.
func refusesDirectory(t *testing.T, x engine.Executor, command process.Command, why syscall.Errno) {
	t.Helper()
	_, err := x.Start(t.Context(), command, secret.Value{})
	failed, ok := errors.AsType[*process.StartError](err)
	if !ok || !failed.Dir || failed.Program || !errors.Is(err, why) || !strings.Contains(err.Error(), command.Dir) {
		t.Errorf("start in %s: %v, want a StartError about it: %v", command.Dir, err, why)
	}
	if exit, _ := Follow(t, x, command.ID, process.Offsets{}); exit.StartErrno != why || !exit.StartDir || exit.Lost {
		t.Errorf("follow what was not started: %+v", exit)
	}
}

func directoryBehindLink(t *testing.T, x engine.Executor) {
	dir, outside := folder(t), folder(t)
	for name, target := range map[string]string{"out": outside, "nowhere": "/nonexistent"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for id, path := range map[string]string{"in.1": "/out/a", "last.1": "/out", "dead.1": "/nowhere"} {
		command := Shell(id, `echo >file`)
		command.Dir, command.MakeDir = dir+path, true
		refusesDirectory(t, x, command, syscall.ENOTDIR)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("there is %v outside, %v", left, err)
	}
	command := Shell("through.1", `pwd -P`) // where nothing is to be made, links are good
	command.Dir = dir + "/out"
	Start(t, x, command, secret.Value{})
	if _, got := Follow(t, x, "through.1", process.Offsets{}); got.Stdout.String() != outside+"\n" {
		t.Errorf("the program ran in %q", got.Stdout.String())
	}
}

func directoryMustBeEmpty(t *testing.T, x engine.Executor) {
	dir := folder(t)
	if err := os.WriteFile(dir+"/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	command := Shell("job.1", `echo >mine`)
	command.Dir, command.MakeDir, command.EmptyDir = dir, true, true
	refusesDirectory(t, x, command, syscall.ENOTEMPTY)
	command.ID, command.EmptyDir = "job.2", false
	Start(t, x, command, secret.Value{})
	if exit, _ := Follow(t, x, "job.2", process.Offsets{}); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	command.ID, command.Dir = "job.3", dir+"/mine"
	refusesDirectory(t, x, command, syscall.ENOTDIR)
}

func encryptedOutput(t *testing.T, x engine.Executor) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("key ", 50_000)
	for id, test := range map[string]struct{ script, want string }{
		"short.1": {`printf secret; printf clear >&2`, "secret"},
		"long.1":  {`i=0; while [ $i -lt 50000 ]; do echo -n 'key '; i=$((i+1)); done`, long},
		// Somebody else holds the output open.
		"held.1": {`sleep 60 2>/dev/null & echo $! >&2; printf secret`, "secret"},
	} {
		command := Shell(id, test.script)
		command.Recipient = identity.Recipient().String()
		Start(t, x, command, secret.Value{})
		exit, got := Follow(t, x, id, process.Offsets{})
		if id == "held.1" {
			holder, err := strconv.Atoi(strings.TrimSpace(got.Stderr.String()))
			if err != nil || syscall.Kill(holder, syscall.SIGKILL) != nil {
				t.Errorf("nobody held the output: %q", got.Stderr.String())
			}
		}
		clear, err := age.Decrypt(armor.NewReader(&got.Stdout), identity)
		if err != nil {
			t.Errorf("%s: decrypt: %v", id, err)
			continue
		}
		if text, err := io.ReadAll(clear); err != nil || string(text) != test.want || exit.Code != 0 {
			t.Errorf("%s: exit %+v, decrypted %d bytes, %v", id, exit, len(text), err)
		}
	}
	silent := Shell("silent.1", `exit 3`)
	silent.Recipient = identity.Recipient().String()
	Start(t, x, silent, secret.Value{})
	if exit, got := Follow(t, x, "silent.1", process.Offsets{}); exit.Code != 3 || got.Stdout.Len() != 0 {
		t.Errorf("exit %+v, and of nothing came %q", exit, got.Stdout.String())
	}
	silent.ID, silent.Recipient = "wrong.1", "age1nobody"
	if _, err := x.Start(t.Context(), silent, secret.Value{}); err == nil {
		t.Error("a recipient that is none was accepted")
	}
}
