package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// mountFleet has an archive with one file, and a directory to mount it below.
func mountFleet(t *testing.T) (f *fleet, point string) {
	t.Helper()
	f = newFleet(t)
	restore, err := filepath.EvalSymlinks(f.root)
	if err != nil {
		t.Fatal(err)
	}
	point = filepath.Join(restore, "restore", "mnt")
	f.write("source/hello.txt", "hello", 0o644)
	f.write("restore/keep", "", 0o600)
	f.config = "policy: {restore: [" + filepath.Join(restore, "restore") + "]}\n"
	f.start()
	t.Cleanup(func() { _ = exec.Command("fusermount3", "-uz", point).Run() }) // mostly there is nothing
	f.run(job.Init, job.InitSpec{})
	f.run(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
	return f, point
}

// mount orders a mount, and waits until it can be used.
func (f *fleet) mount(point string) job.ID {
	f.t.Helper()
	id, reply := f.order(job.Mount, job.MountSpec{MountPoint: point})
	if !reply.Accepted {
		f.t.Fatalf("mount: %+v", reply)
	}
	patience.Until(f.t, "the archive can be read", func() bool {
		for _, event := range f.told(id) {
			if event.Type == job.EventFinished {
				f.t.Fatalf("mount ended %s: %+v", event.State, event.Failure)
			}
		}
		found, err := filepath.Glob(point + "/*" + f.path("source/hello.txt"))
		return err == nil && len(found) == 1
	})
	return id
}

// pid returns the process of a job that runs.
func (f *fleet) pid(id job.ID) (pid int) {
	f.t.Helper()
	patience.Until(f.t, "the start is told", func() bool {
		for _, event := range f.told(id) {
			pid = max(pid, event.PID)
		}
		return pid > 0
	})
	return pid
}

// bare returns an order that names no repository.
func (f *fleet) bare(kind job.Kind, spec job.Spec) bus.Order {
	f.t.Helper()
	order := f.newOrder(kind, spec)
	order.Repository, order.Passphrase = job.Repository{}, nil
	return order
}

// do sends an order and returns the end of its job.
func (f *fleet) do(order bus.Order) bus.Event {
	f.t.Helper()
	reply, err := f.send(f.t.Context(), order)
	if err != nil || !reply.Accepted {
		f.t.Fatalf("%s: %+v, %v", order.Kind, reply, err)
	}
	return f.end(order.Job)
}

// mounted reports what the kernel says.
func mounted(t *testing.T, point string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+point+" ")
}

func TestMountTakesNoSlot(t *testing.T) {
	f, point := mountFleet(t)
	id := f.mount(point)
	if !strings.Contains(f.status(), point) {
		t.Errorf("the status does not show the mount:\n%s", f.status())
	}
	f.run(job.List, job.ListSpec{}) // beside it, in the one slot
	end := f.do(f.bare(job.Umount, job.UmountSpec{MountPoint: point}))
	if end.State != job.Succeeded || end.Result.MountPoint != point {
		t.Errorf("umount: %s, %+v, %+v", end.State, end.Result, end.Failure)
	}
	if end := f.end(id); end.State != job.Succeeded {
		t.Errorf("mount: %s, %+v", end.State, end.Failure)
	}
	if end := f.do(f.bare(job.Umount, job.UmountSpec{MountPoint: point})); end.Failure == nil || end.Failure.Code != job.NotMounted {
		t.Errorf("once more: %s, %+v", end.State, end.Failure)
	}
	outside := f.path("source")
	if reply, err := f.send(t.Context(), f.bare(job.Umount, job.UmountSpec{MountPoint: outside})); err != nil || reply.Failure == nil || reply.Failure.Code != job.RefusedByHost {
		t.Errorf("outside of policy.restore: %+v, %v", reply, err)
	}
}

// TestMountIsCleanedUp kills what could unmount: the agent does, whether it
// sees the end, or finds it at its start.
func TestMountIsCleanedUp(t *testing.T) {
	for name, absent := range map[string]bool{"while the agent runs": false, "while it is away": true} {
		t.Run(name, func(t *testing.T) {
			f, point := mountFleet(t)
			id := f.mount(point)
			pid := f.pid(id)
			if absent {
				f.kill(syscall.SIGKILL)
			}
			if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
				t.Fatalf("kill the group %d: %v", pid, err)
			}
			if absent {
				if !mounted(t, point) {
					t.Fatal("the mount went away by itself")
				}
				f.start()
			}
			if end := f.end(id); end.State != job.Failed {
				t.Errorf("it ended %s", end.State)
			}
			if mounted(t, point) {
				t.Error("it is still mounted when its end is told")
			}
			again := f.mount(point)
			f.do(f.bare(job.Umount, job.UmountSpec{MountPoint: point}))
			f.end(again)
		})
	}
}

// TestMountOfALostJournal: nobody knows the job any more but its directory.
func TestMountOfALostJournal(t *testing.T) {
	f, point := mountFleet(t)
	id := f.mount(point)
	pid := f.pid(id)
	f.kill(syscall.SIGKILL)
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.path("data/journal.db")); err != nil {
		t.Fatal(err)
	}
	f.start()
	patience.Until(t, "it is unmounted", func() bool { return !mounted(t, point) })
}

func TestVerify(t *testing.T) {
	f, _ := mountFleet(t)
	checks := func(event bus.Event) map[string]bool {
		t.Helper()
		if event.Result == nil {
			t.Fatalf("%s without a result: %+v", event.State, event.Failure)
		}
		good := map[string]bool{}
		for _, c := range event.Result.Checks {
			if good[c.Name] = c.Good; c.Detail == "" || !c.Good && c.Hint == "" {
				t.Errorf("finding %+v", c)
			}
		}
		return good
	}
	end := f.do(f.bare(job.Verify, job.VerifySpec{}))
	if got := checks(end); len(got) != 3 || !got["borg"] || !got["fuse"] || (end.State == job.Succeeded) != got["space"] {
		t.Errorf("of the host: %s, %v", end.State, end.Result.Checks)
	}
	id, _ := f.order(job.Verify, job.VerifySpec{})
	if got := checks(f.end(id)); !got["repository"] || !got["borg"] {
		t.Errorf("of a repository: %v", got)
	}
	if err := os.RemoveAll(f.path("repo")); err != nil {
		t.Fatal(err)
	}
	id, _ = f.order(job.Verify, job.VerifySpec{})
	end = f.end(id)
	if got := checks(end); end.State != job.Failed || end.Failure.Code != job.RepositoryMissing || got["repository"] || !got["borg"] {
		t.Errorf("of a missing one: %s, %+v, %v", end.State, end.Failure, got)
	}
}

func TestBackupFromAHook(t *testing.T) {
	f := newFleet(t)
	f.write("hooks.d/dump", "#!/bin/sh\necho a dump\n", 0o755)
	f.write("hooks.d/loose", "#!/bin/sh\n", 0o755)
	if err := os.Chmod(f.path("hooks.d/loose"), 0o777); err != nil {
		t.Fatal(err)
	}
	f.config = "policy: {hooks: " + f.path("hooks.d") + "}\n"
	f.start()
	f.run(job.Init, job.InitSpec{})
	end := f.run(job.Backup, job.BackupSpec{ContentFrom: "dump", StdinName: "dump.sql"})
	if end.Result.NFiles != 1 || end.Result.OriginalSize == 0 {
		t.Errorf("result %+v", end.Result)
	}
	if _, reply := f.order(job.Backup, job.BackupSpec{ContentFrom: "loose"}); reply.Failure == nil || reply.Failure.Code != job.RefusedByHost {
		t.Errorf("a hook that others can write to: %+v", reply)
	}
}
