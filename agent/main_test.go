package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func TestRealBackup(t *testing.T) {
	f := newFleet(t)
	f.write("source/hello.txt", strings.Repeat("hello ", 1000), 0o644)
	f.start()
	if hello := f.lastHello(); hello.Host != host || hello.BorgFailure != nil || !strings.HasPrefix(hello.BorgVersion, "1.") ||
		hello.FreeBytes == 0 || hello.Slots != 1 || hello.OS == "" {
		t.Errorf("hello %+v", hello)
	}
	f.run(job.Init, job.InitSpec{})
	end := f.run(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
	if end.Result.NFiles != 1 || end.Result.OriginalSize < 6000 || end.Result.ArchiveID == "" {
		t.Errorf("result %+v", end.Result)
	}
	list := f.run(job.List, job.ListSpec{})
	if len(list.Result.Archives) != 1 || list.Result.Archives[0].ID != end.Result.ArchiveID {
		t.Errorf("archives %+v; want the one", list.Result.Archives)
	}
	patience.Until(t, "the journal and the job directories are empty at rest", func() bool {
		dirs, err := filepath.Glob(f.path("data/jobs/[0-9A-Z]*")) // a supervisor that stands by has a dot name
		return err == nil && len(dirs) == 0 && strings.Contains(f.status(), `"attempts": []`)
	})
	f.kill(syscall.SIGTERM)
	if strings.Contains(f.log.String(), "correct horse") {
		t.Error("the passphrase is in the log")
	}
}

func TestBorgOutlivesTheAgent(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.write("source/hello.txt", "hello", 0o644)
			gate := f.gated()
			f.start()
			f.run(job.Init, job.InitSpec{})
			id, _ := f.order(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
			patience.Until(t, "borg runs", func() bool { return len(f.told(id)) >= 2 })
			f.kill(signal)
			f.start()
			f.write("gate", "", 0o600)
			if end := f.end(id); end.State != job.Succeeded {
				t.Fatalf("ended %s: %v", end.State, end.Failure)
			}
			pids, err := os.ReadFile(gate + ".pids")
			if err != nil || bytes.Count(pids, []byte("\n")) != 1 {
				t.Errorf("borg was started as %q, error %v; want once", pids, err)
			}
			if list := f.run(job.List, job.ListSpec{}); len(list.Result.Archives) != 1 {
				t.Errorf("archives %+v; want one", list.Result.Archives)
			}
		})
	}
}

// TestKilledAtAnyMoment kills the agent again and again while jobs run. Each
// job must end well, exactly once, with one archive.
func TestKilledAtAnyMoment(t *testing.T) {
	f := newFleet(t)
	f.write("source/hello.txt", "hello", 0o644)
	f.start()
	f.run(job.Init, job.InitSpec{})
	var ids []job.ID
	for i := range 6 {
		id, reply := f.order(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
		if !reply.Accepted {
			t.Fatalf("answer %+v", reply)
		}
		ids = append(ids, id)
		<-time.After(time.Duration(i*37) * time.Millisecond) // another moment of the job's life each time
		f.kill(syscall.SIGKILL)
		f.start()
	}
	for _, id := range ids {
		if end := f.end(id); end.State != job.Succeeded {
			t.Errorf("job %s ended %s: %v", id, end.State, end.Failure)
		}
	}
	if list := f.run(job.List, job.ListSpec{}); len(list.Result.Archives) != len(ids) {
		t.Errorf("%d archives; want %d", len(list.Result.Archives), len(ids))
	}
}

func TestCancelRunningBackup(t *testing.T) {
	f := newFleet(t)
	f.write("source/hello.txt", "hello", 0o644)
	f.gated()
	f.start()
	f.run(job.Init, job.InitSpec{})
	id, _ := f.order(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
	patience.Until(t, "borg runs", func() bool { return len(f.told(id)) >= 2 })
	cancel, err := json.Marshal(bus.Cancel{Job: id, Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.conn.Request(bus.CancelSubject(host), cancel, patience.Most); err != nil {
		t.Fatal(err)
	}
	if end := f.end(id); end.State != job.Cancelled {
		t.Errorf("ended %s: %v", end.State, end.Failure)
	}
}

func TestWrongPassphrase(t *testing.T) {
	f := newFleet(t)
	init := exec.Command("borg", "init", "--encryption=repokey-blake2", f.path("repo"))
	init.Env = append(os.Environ(), "BORG_PASSPHRASE=another", "BORG_BASE_DIR="+f.path("other"))
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("borg init: %v\n%s", err, out)
	}
	f.start()
	id, reply := f.order(job.List, job.ListSpec{})
	if !reply.Accepted {
		t.Fatalf("answer %+v", reply)
	}
	if end := f.end(id); end.State != job.Failed || end.Failure.Code != job.PassphraseWrong || end.Failure.Hint == "" {
		t.Errorf("ended %s: %+v", end.State, end.Failure)
	}
}

func TestPolicyRefuses(t *testing.T) {
	f := newFleet(t)
	f.config = "policy: {read: [/srv/www]}\n"
	f.start()
	id, reply := f.order(job.Backup, job.BackupSpec{Paths: []string{"/etc"}})
	if reply.Accepted || reply.Failure.Code != job.RefusedByHost {
		t.Errorf("answer %+v", reply)
	}
	if end := f.end(id); end.State != job.Failed || end.Failure.Code != job.RefusedByHost {
		t.Errorf("ended %s: %+v", end.State, end.Failure)
	}
}

// agent runs the agent's binary and returns what it prints and its exit code.
func agent(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), command.ProcessState.ExitCode()
}

func TestCommandsFailClearly(t *testing.T) {
	f := newFleet(t)
	f.start()
	run := []string{"run", "--host", host, "--bus", f.url, "--credentials", f.path("keys/agent.creds")}
	f.write("bad.yaml", "slotz: 1\n", 0o600)
	f.write("open/agent.creds", "x", 0o644)
	f.write("unsigned/agent.creds", "x", 0o600)
	f.write("file", "", 0o600)
	tests := map[string]struct {
		args []string
		code int
		want string
	}{
		"data in use":         {append(run, "--data", f.path("data")), 1, "already in use by another agent"},
		"data is a file":      {append(run, "--data", f.path("file")), 1, "data directory"},
		"unknown key":         {append(run, "--config", f.path("bad.yaml")), 2, "slotz"},
		"missing config":      {append(run, "--config", f.path("none.yaml")), 2, "none.yaml"},
		"bad host":            {[]string{"run", "--host", "Web 1"}, 2, "host"},
		"bad bus":             {[]string{"run", "--bus", "http://x"}, 2, "bus.urls[0]"},
		"no credentials":      {[]string{"run", "--host", host, "--data", f.path("d1"), "--credentials", f.path("none")}, 5, "host token web1"},
		"open credentials":    {[]string{"run", "--host", host, "--data", f.path("d2"), "--credentials", f.path("open/agent.creds")}, 5, "chmod 600"},
		"no signer":           {[]string{"run", "--host", host, "--data", f.path("d3"), "--credentials", f.path("unsigned/agent.creds")}, 5, "signer.pub"},
		"unknown flag":        {[]string{"run", "--nonsense"}, 2, "--nonsense"},
		"unknown command":     {[]string{"status", "now"}, 2, "now"},
		"status without one":  {[]string{"status", "--host", host, "--data", f.path("none")}, 5, "no agent runs"},
		"supervise by a user": {[]string{"supervise"}, 2, "<dir>"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out, errs, code := agent(t, test.args...)
			if code != test.code || !strings.Contains(errs, test.want) || out != "" {
				t.Errorf("exit code %d, output %q, error %q; want %d and %q", code, out, errs, test.code, test.want)
			}
			if strings.Count(strings.TrimSpace(errs), "\n") > 0 && !strings.Contains(errs, "[INFO]") {
				t.Errorf("the error is not one line:\n%s", errs)
			}
		})
	}
}

func TestDoctor(t *testing.T) {
	f := newFleet(t)
	f.start()
	args := []string{"doctor", "--host", host, "--data", f.path("data"), "--bus", f.url, "--credentials", f.path("keys/agent.creds")}
	t.Run("all well", func(t *testing.T) {
		out, errs, code := agent(t, append(args, "--json")...)
		if code != 0 || !strings.Contains(out, `"ok": true`) || strings.Contains(out, `"failed"`) {
			t.Errorf("exit code %d, error %q:\n%s", code, errs, out)
		}
	})
	t.Run("status", func(t *testing.T) {
		out, _, code := agent(t, "status", "--host", host, "--data", f.path("data"))
		if code != 0 || !strings.Contains(out, "connected to nats://") || !strings.Contains(out, "no jobs") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
	f.kill(syscall.SIGTERM)
	t.Run("agent stopped", func(t *testing.T) {
		out, _, code := agent(t, args...)
		if code != 0 || !strings.Contains(out, "can be reached with these credentials") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
	t.Run("nothing well", func(t *testing.T) {
		config := filepath.Join(f.root, "broken.yaml")
		f.write("broken.yaml", "borg: {binary: /no/borg}\npolicy: {read: [/no/data]}\n", 0o600)
		out, _, code := agent(t, "doctor", "--config", config, "--host", host, "--data", f.path("keys/agent.creds"),
			"--bus", "nats://127.0.0.1:1", "--credentials", f.path("nokeys/none"))
		if code != 1 || strings.Count(out, "failed") < 6 || strings.Count(out, "fix: ") < 6 {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	})
}

func TestVersionAndCompletion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}} {
		if out, errs, code := agent(t, args...); code != 0 || out == "" || errs != "" {
			t.Errorf("%v: exit code %d, output %q, error %q", args, code, out, errs)
		}
	}
}
