package borg_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// A mount point whose name needs care everywhere: in the kernel's table, in a
// shell, and in JSON.
const oddPoint = `mnt/it's "a" \040 $(touch x) *`

// mountLab has a repository with the archive web1-b, and cleans what is left
// mounted.
type mountLab struct {
	*lab
	point string
}

func newMountLab(t *testing.T) mountLab {
	t.Helper()
	l := mountLab{lab: newLab(t)}
	l.point = filepath.Join(l.root, oddPoint)
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l.lab)
	t.Cleanup(func() { _ = exec.Command("fusermount3", "-uz", l.point).Run() }) // mostly there is nothing to unmount
	return l
}

// mount is a mount job that runs.
type mount struct {
	task    borg.Task
	cmd     *exec.Cmd
	process *os.Process
	over    chan borg.Exit
	stdout  *transcript
	stderr  *transcript
}

// transcript is what a process has said so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(data)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (l mountLab) task(spec job.MountSpec) borg.Task {
	if spec.MountPoint == "" {
		spec.MountPoint = l.point
	}
	return baseTask(l.root, spec)
}

func (l mountLab) start(task borg.Task) *mount {
	l.t.Helper()
	cmd, passphrase := l.command(task)
	m := &mount{task: task, cmd: cmd, over: make(chan borg.Exit, 1), stdout: &transcript{}, stderr: &transcript{}}
	cmd.Stdout, cmd.Stderr = m.stdout, m.stderr
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if passphrase != nil {
		passphrase.Close()
	}
	m.process = cmd.Process
	l.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // mostly it is gone
	go func() { m.over <- wait(l.t, cmd) }()
	return m
}

// outcome waits for the end.
func (m *mount) outcome(t *testing.T, edit func(*borg.Exit)) job.Outcome {
	t.Helper()
	select {
	case exit := <-m.over:
		if edit != nil {
			edit(&exit)
		}
		outcome, _ := parse(m.task, recording{stdout: []byte(m.stdout.String()), stderr: []byte(m.stderr.String()), exit: exit}, 50)
		t.Logf("exit %+v, %q: %s %v", exit, m.stdout, outcome.State, outcome.Failure)
		return outcome
	case <-time.After(time.Minute):
		t.Fatalf("the mount does not end:\n%s", m.stderr)
	}
	return job.Outcome{}
}

// ready waits until the parser says that the mount point can be used.
func (m *mount) ready(t *testing.T) job.Progress {
	t.Helper()
	var told job.Progress
	until(t, "mounted", func() bool {
		_, items := parse(m.task, recording{stderr: []byte(m.stderr.String())}, 100)
		for _, item := range items {
			if item.Progress != nil && item.Progress.Phase == job.PhaseMounted {
				told = *item.Progress
				return true
			}
		}
		if len(m.over) > 0 {
			t.Fatalf("it ended at once: %+v\n%s", <-m.over, m.stderr)
		}
		return false
	})
	return told
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// mountedAt reports whether the kernel has a mount at the point.
func mountedAt(t *testing.T, point string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+strings.NewReplacer(`\`, `\134`, " ", `\040`).Replace(point)+" ")
}

// borgs returns the pids of the borg processes of a mount.
func (m *mount) borgs(t *testing.T) []int {
	t.Helper()
	said, err := exec.Command("pgrep", "-g", fmt.Sprint(m.process.Pid), "-f", "^/usr/bin/python3 "+borgBinary).Output()
	if err != nil {
		t.Fatalf("no borg in the group: %v", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(said)) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func (l mountLab) umount(t *testing.T, force bool) job.Outcome {
	t.Helper()
	task := borg.Task{Kind: job.Umount, Spec: job.UmountSpec{MountPoint: l.point, Force: force}, Host: "web1"}
	return outcomeOfRun(l.lab, task)
}

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
