package borg_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestMountWithoutADevice hides /dev from a mount.
func TestMountWithoutADevice(t *testing.T) {
	l := newMountLab(t)
	task := l.task(job.MountSpec{})
	argv, _, err := borg.Command(task, l.env)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec "$@"`, "sh"}, argv...)...)
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("it said %q", out)
	}
	outcome, _ := parse(task, recording{stdout: out, exit: borg.Exit{Code: cmd.ProcessState.ExitCode()}}, 100)
	checkFailure(t, outcome, job.FuseMissing)
	for name, said := range map[string]string{
		"no device, says libfuse": "fuse: device not found, try 'modprobe fuse' first\n",
		"not allowed":             "fusermount3: mount failed: Operation not permitted\n",
		"borg 1.4":                errorLine("RTError", "borg mount not available: no FUSE support, BORG_FUSE_IMPL=pyfuse3,llfuse."),
	} {
		t.Run(name, func(t *testing.T) { checkFailure(t, outcomeOf(task, said, borg.Exit{Code: 2}), job.FuseMissing) })
	}
}

func TestUmount(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	checkFailure(t, l.umount(t, false), job.NotMounted)
	mountSomething(t, l)
	checkFailure(t, l.umount(t, true), job.NotMounted)
	if !mountedAt(t, l.point) {
		t.Error("what is not borg's was unmounted")
	}
}

func TestUmountWhileItIsInUse(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	m := l.start(l.task(job.MountSpec{Archive: "web1-b"}))
	m.ready(t)
	reader, err := os.Open(filepath.Join(l.point, l.root, "data/www/random.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	end := l.umount(t, false)
	checkFailure(t, end, job.MountPointBusy)
	if want := fmt.Sprintf("process %d (borg.test)", os.Getpid()); !strings.Contains(end.Failure.Message, want) {
		t.Errorf("it does not name %s: %s", want, end.Failure.Message)
	}
	if !mountedAt(t, l.point) || len(m.over) > 0 {
		t.Error("it was unmounted all the same")
	}
	if end := l.umount(t, true); end.State != job.Succeeded {
		t.Errorf("by force: %s %v", end.State, end.Failure)
	}
	if end := m.outcome(t, nil); end.State != job.Succeeded {
		t.Errorf("the mount: %s %v\n%s", end.State, end.Failure, m.stderr)
	}
	l.must(baseTask(l.root, job.CompactSpec{}))
}

func TestMountCommands(t *testing.T) {
	env := borg.Environment{LockWait: time.Hour}
	for want, task := range map[string]borg.Task{
		"/bin/sh -c ... mount 1800 /mnt/a borg mount --log-json --lock-wait=3600 --foreground -- /srv/lab/repo /mnt/a":            baseTask(neutralRoot, job.MountSpec{MountPoint: "/mnt//a/"}),
		"/bin/sh -c ... mount 60 /mnt/a borg mount --log-json --lock-wait=3600 --foreground -- '/srv/lab/repo::{{now}}-x' /mnt/a": baseTask(neutralRoot, job.MountSpec{Archive: "{now}-x", MountPoint: "/mnt/a", Idle: 60}),
		"/bin/sh -c ... umount plain /mnt/a": {Kind: job.Umount, Spec: job.UmountSpec{MountPoint: "/mnt/a/"}},
		"/bin/sh -c ... umount force /mnt/a": {Kind: job.Umount, Spec: job.UmountSpec{MountPoint: "/mnt/a", Force: true}},
		"borg --version":                     {Kind: job.Verify, Spec: job.VerifySpec{}},
		"/bin/sh -c ... verify 120 plain /srv/lab/repo borg list --log-json --lock-wait=20 --json -- /srv/lab/repo":       baseTask(neutralRoot, job.VerifySpec{}),
		"/bin/sh -c ... verify 0 cache,moved /srv/lab/repo borg info --log-json --lock-wait=20 --json -- /srv/lab/repo":   baseTask(neutralRoot, job.VerifySpec{AcceptMoved: true, RebuildCache: true}),
		"/bin/sh -c ... verify 120 moved,older /srv/lab/repo borg list --log-json --lock-wait=20 --json -- /srv/lab/repo": baseTask(neutralRoot, job.VerifySpec{AcceptMoved: true, AcceptOlder: true}),
	} {
		argv, environ, err := borg.Command(task, env)
		if got := borg.Redact(argv); err != nil || got != want {
			t.Errorf("got %s, %v\nwant %s", got, err, want)
		}
		if utc := slices.Contains(environ, "TZ=UTC"); utc != (task.Kind == job.Verify) {
			t.Errorf("%s: environment %q", task.Kind, environ)
		}
	}
	if diff := cmp.Diff([]string{"no repository location"}, faults(borg.Task{Kind: job.Mount, Spec: job.MountSpec{MountPoint: "/a"}})); diff != "" {
		t.Error(diff)
	}
}

func faults(task borg.Task) []string {
	_, _, err := borg.Command(task, borg.Environment{})
	if err == nil {
		return nil
	}
	return []string{err.Error()[strings.LastIndex(err.Error(), ": ")+2:]}
}
