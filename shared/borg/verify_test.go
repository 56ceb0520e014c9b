package borg_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestVerifyWithoutARepository(t *testing.T) {
	l := newLab(t)
	task := borg.Task{Kind: job.Verify, Spec: job.VerifySpec{}, Host: "web1", Version: borg.Version{Text: "1.2.4", Major: 1, Minor: 2}}
	end := outcomeOfRun(l, task)
	if end.State != job.Succeeded || len(end.Result.Checks) != 0 || end.Result.BorgVersion != "1.2.4" {
		t.Errorf("%s %v, %+v", end.State, end.Failure, end.Result)
	}
	_, _, err := borg.Command(borg.Task{Kind: job.Verify, Spec: job.VerifySpec{RebuildCache: true}}, l.env)
	if failure := job.AsFailure(err); failure == nil || failure.Code != job.InvalidSpec {
		t.Errorf("a cache of nothing: %v", err)
	}
	l.env.Binary = l.script("borg", "echo 'Traceback (most recent call last):' >&2; echo 'ModuleNotFoundError: borg' >&2; exit 1")
	end = outcomeOfRun(l, task)
	checkFailure(t, end, job.BorgMissing)
	if len(end.Result.Checks) != 0 {
		t.Errorf("checks %+v", end.Result.Checks)
	}
}

func TestVerifyOfARepository(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l)
	task := baseTask(l.root, job.VerifySpec{})
	end := outcomeOfRun(l, task)
	if end.State != job.Succeeded || len(end.Result.Checks) != 2 {
		t.Fatalf("%s %v, %+v", end.State, end.Failure, end.Result)
	}
	found := end.Result.Checks[0]
	if want := fmt.Sprintf("%s/repo: 3 archives, the newest is web2-a of ", l.root); !found.Good || !strings.HasPrefix(found.Detail, want) {
		t.Errorf("%+v does not begin with %q", found, want)
	}
	if diff := cmp.Diff(job.Finding{Name: "encryption", Good: true, Detail: "repokey-blake2"}, end.Result.Checks[1]); diff != "" {
		t.Error(diff)
	}

	task.Repository.Encryption = job.Authenticated
	end = outcomeOfRun(l, task)
	if end.State != job.Warning || end.Result.Checks[1].Good || end.Result.Checks[1].Hint == "" {
		t.Errorf("registered with another encryption: %s %+v", end.State, end.Result)
	}
}

// TestVerifyFails: what is wrong with the repository is the job's failure, and a
// finding.
func TestVerifyFails(t *testing.T) {
	made := labWithRepository(t, false)
	stderr := func(name, body string) func(*lab) {
		return func(l *lab) { l.env.Binary = l.script(name, body) }
	}
	for name, test := range map[string]struct {
		prepare func(*lab)
		code    job.Code
	}{
		"wrong passphrase": {func(l *lab) { l.pass = "wrong" }, job.PassphraseWrong},
		"locked":           {holdLock, job.RepositoryLocked},
		"no repository": {func(l *lab) {
			if err := os.RemoveAll(l.root + "/repo"); err != nil {
				l.t.Fatal(err)
			}
		}, job.RepositoryMissing},
		"no borg":     {func(l *lab) { l.env.Binary = "/nonexistent/borg" }, job.BorgMissing},
		"no answer":   {stderr("borg", "exit 124"), job.Timeout},
		"no report":   {stderr("borg", "exit 0"), job.Internal},
		"killed":      {stderr("borg", "kill -9 $$"), job.Interrupted},
		"no rights":   {stderr("borg", "exit 126"), job.BorgMissing},
		"unexplained": {stderr("borg", "exit 2"), job.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLabWith(t, made)
			test.prepare(l)
			end := outcomeOfRun(l, baseTask(l.root, job.VerifySpec{}))
			checkFailure(t, end, test.code)
			want := []job.Finding{{Name: "repository", Detail: end.Failure.Message, Hint: end.Failure.Hint}}
			if diff := cmp.Diff(want, end.Result.Checks); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A server that says nothing is given up, and borg ended.
func TestVerifyEndsWhoDoesNotAnswer(t *testing.T) {
	l := newLab(t)
	l.env.Binary = l.script("borg", "echo $$ >"+l.root+"/pid; exec sleep 1000")
	cmd, passphrase := l.command(baseTask(l.root, job.VerifySpec{}))
	passphrase.Close()
	cmd.ExtraFiles = nil
	cmd.Args[4] = "1" // second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if exit := wait(t, cmd); exit.Code != 124 {
		t.Errorf("%+v", exit)
	}
	text, err := os.ReadFile(l.root + "/pid")
	var pid int
	if _, scan := fmt.Sscan(string(text), &pid); err != nil || scan != nil {
		t.Fatal(err, scan)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("borg lives on")
	}
}

func TestVerifyIsCancelled(t *testing.T) {
	task := baseTask(neutralRoot, job.VerifySpec{})
	if end := outcomeOf(task, "", borg.Exit{Code: 143, Cancelled: true}); end.State != job.Cancelled {
		t.Errorf("%s %v", end.State, end.Failure)
	}
	modern := modern(job.VerifySpec{})
	checkFailure(t, outcomeOf(modern, "", borg.Exit{Code: 124}), job.Timeout)
	checkFailure(t, outcomeOf(modern, errorLine("LockTimeout", "x"), borg.Exit{Code: 73}), job.RepositoryLocked)
}
