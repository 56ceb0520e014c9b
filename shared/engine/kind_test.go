package engine_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// noting is an executor that notes what it is to start.
type noting struct {
	scripted
	command process.Command
}

func (n *noting) Start(ctx context.Context, c process.Command, pass secret.Value) (process.Started, error) {
	n.command = c
	return n.scripted.Start(ctx, c, pass)
}

func attemptOf(spec job.Spec) engine.Attempt {
	a := compaction()
	a.Task.Kind, a.Task.Spec = spec.Kind(), spec
	return a
}

// TestWhatTheExecutorDoes compares the parts of the command that borg's own
// arguments do not say.
func TestWhatTheExecutorDoes(t *testing.T) {
	into := process.Command{Dir: "/srv/x", MakeDir: true}
	empty := into
	empty.EmptyDir = true
	for name, test := range map[string]struct {
		spec job.Spec
		want process.Command
	}{
		"list":                     {job.ListSpec{}, process.Command{}},
		"list of files":            {job.ListSpec{Archive: "a"}, process.Command{Pipe: true}},
		"download":                 {job.DownloadSpec{Archive: "a"}, process.Command{Pipe: true}},
		"restore":                  {job.RestoreSpec{Archive: "a", Target: "/srv/x"}, empty},
		"restore that overwrites":  {job.RestoreSpec{Archive: "a", Target: "/srv/x", Overwrite: true}, into},
		"restore of what is gone":  {job.RestoreSpec{Archive: "a", Target: "/srv/x", KeepExisting: true}, into},
		"restore that only looks":  {job.RestoreSpec{Archive: "a", Target: "/srv/x", DryRun: true}, process.Command{}},
		"mount":                    {job.MountSpec{MountPoint: "/srv/x"}, process.Command{}},
		"umount, no repository":    {job.UmountSpec{MountPoint: "/srv/x"}, process.Command{}},
		"verify, without anything": {job.VerifySpec{}, process.Command{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, a := &noting{}, attemptOf(test.spec)
				if !a.Task.Kind.NeedsRepository() {
					a.Task.Repository = job.Repository{}
				}
				if err := newEngine(x).Run(t.Context(), a, newRecorder(), nil); err != nil {
					t.Fatal(err)
				}
				got := x.command
				got.ID, got.Argv, got.Env = "", nil, nil
				if diff := cmp.Diff(test.want, got); diff != "" || x.starts != 1 {
					t.Errorf("%d starts (-want +got):\n%s", x.starts, diff)
				}
			})
		})
	}
}

// A mount is told to end as borg's own kinds are; SIGINT is nothing to it.
func TestMountIsTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &scripted{ends: time.Hour, onSignal: func(n int, _ process.Signal) (process.Exit, bool) { return process.Exit{}, n == 1 }}
		cancel, rec := make(chan struct{}), newRecorder()
		close(cancel)
		a := attemptOf(job.MountSpec{MountPoint: "/srv/x"})
		if _, err := x.Start(t.Context(), process.Command{}, secret.Value{}); err != nil {
			t.Fatal(err)
		}
		if err := newEngine(x).Run(t.Context(), a, rec, cancel); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"0s terminate", "10s terminate"}, x.sent); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
}

func TestNobodyIsThereToRead(t *testing.T) {
	x, rec := &scripted{startErr: []error{&process.StartError{Doing: "supervise", Err: syscall.EPIPE}}}, newRecorder()
	if err := newEngine(x).Run(t.Context(), attemptOf(job.DownloadSpec{Archive: "a"}), rec, nil); err != nil {
		t.Fatal(err)
	}
	if end := rec.finished(t); end.State != job.Failed || end.Failure.Code != job.ConnectionLost || end.Failure.Hint == "" {
		t.Errorf("%s, %+v", end.State, end.Failure)
	}
}

func TestChecksGoInFront(t *testing.T) {
	good := job.Finding{Name: "borg", Good: true, Detail: "1.2.4"}
	bad := job.Finding{Name: "fuse", Detail: "there is none", Hint: "install it"}
	for name, test := range map[string]struct {
		found []job.Finding
		exit  process.Exit
		want  job.State
		warns []string
	}{
		"all good":            {[]job.Finding{good}, process.Exit{}, job.Succeeded, nil},
		"one bad":             {[]job.Finding{good, bad}, process.Exit{}, job.Warning, []string{"fuse: there is none"}},
		"and borg fails":      {[]job.Finding{good, bad}, process.Exit{Code: 2}, job.Failed, []string{"fuse: there is none"}},
		"borg is not started": {[]job.Finding{bad}, process.Exit{Code: -1, StartError: "run borg", StartErrno: syscall.ENOENT}, job.Failed, []string{"fuse: there is none"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, rec := attemptOf(job.VerifySpec{}), newRecorder()
				a.Task.Repository, a.Checks = job.Repository{}, test.found
				if err := newEngine(&scripted{exit: test.exit}).Run(t.Context(), a, rec, nil); err != nil {
					t.Fatal(err)
				}
				end := rec.finished(t)
				if end.State != test.want || end.Result == nil {
					t.Fatalf("%s, %+v, %+v", end.State, end.Result, end.Failure)
				}
				if diff := cmp.Diff(test.found, end.Result.Checks); diff != "" {
					t.Errorf("checks (-want +got):\n%s", diff)
				}
				if got := end.Result.Warnings; len(got) != len(test.warns) || len(got) > 0 && got[0] != test.warns[0] {
					t.Errorf("warnings %q; want %q", got, test.warns)
				}
			})
		})
	}
}
