package borg_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestMountOfAnArchiveAndUmount(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	m := l.start(l.task(job.MountSpec{Archive: "web1-b"}))
	told := m.ready(t)
	if told.Path != l.point || told.At.IsZero() || told.Percent != nil {
		t.Errorf("progress %+v", told)
	}
	got, err := os.ReadFile(filepath.Join(l.point, l.root, "data/etc/motd"))
	if err != nil || string(got) != "welcome\n" {
		t.Errorf("read %q, %v", got, err)
	}
	info, err := os.Stat(filepath.Dir(l.point))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory that was made: %v, %v", info, err)
	}
	shell, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.process.Pid))
	if err != nil || slices.ContainsFunc(shell, func(e os.DirEntry) bool { return e.Name() == "3" }) {
		t.Errorf("the passphrase's descriptor is open in the shell: %v, %v", shell, err)
	}
	l.must(baseTask(l.root, job.ListSpec{})) // readers share the lock
	if end := outcomeOfRun(l.lab, baseTask(l.root, job.CompactSpec{})); end.Failure == nil || end.Failure.Code != job.RepositoryLocked {
		t.Errorf("a writer, while it is mounted: %s %v", end.State, end.Failure)
	}

	if end := l.umount(t, false); end.State != job.Succeeded || end.Result.MountPoint != l.point {
		t.Errorf("umount: %s %v", end.State, end.Failure)
	}
	end := m.outcome(t, nil)
	if end.State != job.Succeeded || end.Result.MountPoint != l.point || end.Result.Archive != "web1-b" || len(end.Result.Warnings) > 0 {
		t.Errorf("%s %v, %+v", end.State, end.Failure, end.Result)
	}
	l.must(baseTask(l.root, job.CompactSpec{}))
}

func TestMountOfARepositoryEndsWhenItIsIdle(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	m := l.start(l.task(job.MountSpec{Idle: 3}))
	m.ready(t)
	names, err := os.ReadDir(l.point)
	if err != nil || !slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "web1-b" }) {
		t.Errorf("archives %v, %v", names, err)
	}
	if end := m.outcome(t, nil); end.State != job.Succeeded || mountedAt(t, l.point) {
		t.Errorf("%s %v, mounted: %v\n%s", end.State, end.Failure, mountedAt(t, l.point), m.stderr)
	}
	if !strings.Contains(m.stderr.String(), "nobody has used it") {
		t.Errorf("the log does not say why:\n%s", m.stderr)
	}
}

// Who stands in an idle mount, but reads nothing, does not keep the repository
// from its backups.
func TestIdleMountIsUnmountedUnderItsUser(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	m := l.start(l.task(job.MountSpec{Idle: 3}))
	m.ready(t)
	open, err := os.Open(l.point)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if end := m.outcome(t, nil); end.State != job.Succeeded || mountedAt(t, l.point) {
		t.Errorf("%s %v\n%s", end.State, end.Failure, m.stderr)
	}
	l.must(baseTask(l.root, job.CompactSpec{}))
}

func TestMountInUseIsNotIdle(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	m := l.start(l.task(job.MountSpec{Archive: "web1-b", Idle: 4}))
	m.ready(t)
	file := filepath.Join(l.point, l.root, "data/www/random.bin")
	want, err := os.ReadFile(filepath.Join(l.root, "data/www/random.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 6*time.Second; {
		// A page cache would answer a second time, and borg not know of it.
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("after %s: %v", time.Since(begun), err)
		}
	}
	if end := m.outcome(t, nil); end.State != job.Succeeded {
		t.Errorf("%s %v", end.State, end.Failure)
	}
}

// TestMountEnds ends mounts in the ways in which processes end, and each time
// expects that nothing is mounted any more, and that the repository is free.
func TestMountEnds(t *testing.T) {
	group := func(signal syscall.Signal) func(*testing.T, *mount) {
		return func(t *testing.T, m *mount) {
			if err := syscall.Kill(-m.process.Pid, signal); err != nil {
				t.Error(err)
			}
		}
	}
	only := func(signal syscall.Signal) func(*testing.T, *mount) {
		return func(t *testing.T, m *mount) {
			for _, pid := range m.borgs(t) {
				if err := syscall.Kill(pid, signal); err != nil {
					t.Error(err)
				}
			}
		}
	}
	cancelled := func(e *borg.Exit) { e.Cancelled = true }
	tests := map[string]struct {
		end   func(*testing.T, *mount)
		edit  func(*borg.Exit)
		state job.State
		code  job.Code
	}{
		"cancelled":          {group(syscall.SIGTERM), cancelled, job.Cancelled, job.CodeCancelled},
		"over its time":      {group(syscall.SIGTERM), func(e *borg.Exit) { e.Timeout = time.Second }, job.Failed, job.Timeout},
		"host shuts down":    {group(syscall.SIGTERM), nil, job.Succeeded, ""},
		"interrupt":          {group(syscall.SIGINT), cancelled, job.Cancelled, job.CodeCancelled},
		"borg is killed":     {only(syscall.SIGKILL), nil, job.Failed, job.Interrupted},
		"borg is terminated": {only(syscall.SIGTERM), nil, job.Failed, job.Interrupted},
		"lazily by another": {func(t *testing.T, m *mount) {
			if said, err := exec.Command("umount", "-l", m.task.Spec.(job.MountSpec).MountPoint).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, said)
			}
		}, nil, job.Succeeded, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newMountLab(t)
			m := l.start(l.task(job.MountSpec{}))
			m.ready(t)
			if _, err := os.ReadDir(l.point); err != nil { // whoever answers has its own ways with signals by then
				t.Error(err)
			}
			test.end(t, m)
			end := m.outcome(t, test.edit)
			if end.State != test.state || test.code != "" && (end.Failure == nil || end.Failure.Code != test.code || hole.MatchString(end.Failure.Error())) {
				t.Errorf("%s %+v\n%s", end.State, end.Failure, m.stderr)
			}
			if end.Result != nil && len(end.Result.Warnings) > 0 {
				t.Errorf("warnings %q", end.Result.Warnings)
			}
			if mountedAt(t, l.point) {
				t.Error("it is still mounted")
			}
			l.must(baseTask(l.root, job.CompactSpec{}))
		})
	}
}

// What was killed with its whole group leaves a dead mount, which the next one
// removes.
func TestDeadMountIsReplaced(t *testing.T) {
	t.Parallel()
	l := newMountLab(t)
	m := l.start(l.task(job.MountSpec{}))
	m.ready(t)
	if err := syscall.Kill(-m.process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if end := m.outcome(t, nil); end.State != job.Failed || end.Failure.Code != job.Interrupted || !mountedAt(t, l.point) {
		t.Fatalf("%s %v", end.State, end.Failure)
	}
	m = l.start(l.task(job.MountSpec{}))
	m.ready(t)
	if names, err := os.ReadDir(l.point); err != nil || len(names) == 0 {
		t.Errorf("archives %v, %v", names, err)
	}
	if end := l.umount(t, false); end.State != job.Succeeded {
		t.Errorf("umount: %s %v", end.State, end.Failure)
	}
	if end := m.outcome(t, nil); end.State != job.Succeeded {
		t.Errorf("%s %v", end.State, end.Failure)
	}
}

func TestMountRefuses(t *testing.T) {
	fresh := newMountLab(t)
	tests := map[string]struct {
		prepare func(t *testing.T, l mountLab)
		edit    func(*borg.Task)
		code    job.Code
	}{
		"not empty":     {func(t *testing.T, l mountLab) { l.write(oddPoint+"/.hidden", nil) }, nil, job.TargetNotEmpty},
		"a file":        {func(t *testing.T, l mountLab) { l.write(oddPoint, nil) }, nil, job.TargetNotEmpty},
		"below a file":  {func(t *testing.T, l mountLab) { l.write("mnt", nil) }, nil, job.PermissionDenied},
		"a link":        {linkPoint, nil, job.RefusedByHost},
		"mounted":       {mountSomething, nil, job.MountPointBusy},
		"no archive":    {nil, func(task *borg.Task) { task.Spec = withArchive(task.Spec, "nope") }, job.ArchiveMissing},
		"no repository": {nil, func(task *borg.Task) { task.Repository.Location += "-gone" }, job.RepositoryMissing},
		"wrong pass":    {func(t *testing.T, l mountLab) { l.pass = "wrong" }, nil, job.PassphraseWrong},
		"no borg":       {func(t *testing.T, l mountLab) { l.env.Binary = "/nonexistent/borg" }, nil, job.BorgMissing},
		"no binding": {func(t *testing.T, l mountLab) {
			l.env.Binary = l.script("borg", `BORG_FUSE_IMPL=none exec `+borgBinary+` "$@"`)
		}, nil, job.FuseMissing},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := mountLab{lab: newLabWith(t, fresh.lab)}
			l.point = filepath.Join(l.root, oddPoint)
			if test.prepare != nil {
				test.prepare(t, l)
			}
			task := l.task(job.MountSpec{Archive: "web1-b"})
			if test.edit != nil {
				test.edit(&task)
			}
			end := l.start(task).outcome(t, nil)
			checkFailure(t, end, test.code)
			if strings.Contains(end.Failure.Error(), "{point}") {
				t.Errorf("a hole: %v", end.Failure)
			}
		})
	}
}

func linkPoint(t *testing.T, l mountLab) {
	l.write("elsewhere/x", nil)
	if err := os.Remove(filepath.Join(l.root, "elsewhere/x")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(l.point), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(l.root, "elsewhere"), l.point); err != nil {
		t.Fatal(err)
	}
}

// mountSomething mounts something that is not borg's at the mount point.
func mountSomething(t *testing.T, l mountLab) {
	if err := os.MkdirAll(l.point, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", l.point, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(l.point, 0); err != nil {
			t.Error(err)
		}
	})
}

func withArchive(spec job.Spec, archive string) job.Spec {
	mount := spec.(job.MountSpec)
	mount.Archive = archive
	return mount
}
