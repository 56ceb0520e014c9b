package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// TestDamagedJournal: the agent forgets what it ran, ends it before anything
// else begins, and says so.
func TestDamagedJournal(t *testing.T) {
	f := newFleet(t)
	f.write("source/hello.txt", "hello", 0o644)
	gate := f.gated()
	f.start()
	f.run(job.Init, job.InitSpec{})
	id, _ := f.order(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
	patience.Until(t, "borg runs", func() bool { return len(f.told(id)) >= 2 })
	f.kill(syscall.SIGKILL)
	f.write("data/journal.db", strings.Repeat("x", 1<<16), 0o600)
	f.start()
	f.run(job.List, job.ListSpec{})
	text, err := os.ReadFile(gate + ".pids")
	pid, numeric := strconv.Atoi(strings.TrimSpace(string(text)))
	if err = errors.Join(err, numeric); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a job ran while borg of the lost journal lived: %v", err)
	}
	if status := f.status(); !strings.Contains(status, "journal.db.damaged-") || !strings.Contains(status, `"orphans": []`) {
		t.Errorf("status:\n%s", status)
	}
	out, _, code := agent(t, "doctor", "--host", host, "--data", f.path("data"), "--bus", f.url, "--credentials", f.path("keys/agent.creds"))
	if code != 0 || !strings.Contains(out, "set aside") {
		t.Errorf("doctor ended with %d:\n%s", code, out)
	}
}

// smallDisk puts the agent's data, but for what is borg's own, on a file system
// of two megabytes.
func (f *fleet) smallDisk() {
	t := f.t
	t.Helper()
	for _, dir := range []string{"data", "base"} {
		if err := os.Mkdir(f.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	disktest.Mount(t, f.path("data"), 2) // until after the agent's end
	if err := os.Symlink(f.path("base"), f.path("data/borg")); err != nil {
		t.Fatal(err)
	}
}

// sendInVain sends an order until it is answered, or until the agent says that
// it cannot take it.
func (f *fleet) sendInVain(order bus.Order) (reply bus.OrderReply, answered bool) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	over := make(chan error, 1)
	go func() {
		var err error
		reply, err = f.send(ctx, order)
		over <- err
	}()
	var err error
	patience.Until(f.t, "the agent answers, or says why not", func() bool {
		select {
		case err = <-over:
			return true
		default:
			if strings.Contains(f.log.String(), "handle request") {
				cancel()
			}
			return false
		}
	})
	return reply, err == nil
}

// TestFullDisk: what cannot be journaled is not accepted, what runs goes on, and
// all of it is told when there is room again.
func TestFullDisk(t *testing.T) {
	f := newFleet(t)
	f.smallDisk()
	f.write("source/hello.txt", "hello", 0o644)
	f.gated()
	f.start()
	f.run(job.Init, job.InitSpec{})
	id, _ := f.order(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}})
	patience.Until(t, "borg runs, with room for its end", func() bool {
		for _, name := range []string{"stdout", "stderr"} {
			var made syscall.Stat_t
			if syscall.Stat(f.path("data/jobs/"+id.AttemptID(1)+"/"+name), &made) != nil || made.Blocks <= 8 {
				return false
			}
		}
		return len(f.told(id)) >= 2
	})
	free := disktest.Fill(t, f.path("data"))
	large := f.newOrder(job.Backup, job.BackupSpec{
		Paths: []string{f.path("source")}, Exclude: slices.Repeat([]string{"/" + strings.Repeat("x", 4000)}, 40)})
	if reply, answered := f.sendInVain(large); answered {
		t.Errorf("an order that cannot be journaled was answered with %+v", reply)
	}
	f.write("gate", "", 0o600)
	patience.Until(t, "borg is done", func() bool {
		_, err := os.Stat(f.path("data/jobs/" + id.AttemptID(1) + "/exit.json"))
		return err == nil
	})
	free()
	if end := f.end(id); end.State != job.Succeeded || end.Result.Archive == "" {
		t.Errorf("ended %s: %v, %+v", end.State, end.Failure, end.Result)
	}
	f.run(job.List, job.ListSpec{})
	if told := f.told(large.Job); len(told) > 0 {
		t.Errorf("of the order without an answer it told %+v", told)
	}
}

// TestFullDiskAtTheStart: a job that cannot begin says why, when it can.
func TestFullDiskAtTheStart(t *testing.T) {
	f := newFleet(t)
	f.smallDisk()
	f.start()
	f.run(job.Init, job.InitSpec{})
	free := disktest.Fill(t, f.path("data"))
	order := f.newOrder(job.List, job.ListSpec{})
	reply, answered := f.sendInVain(order) // the journal may have room for it, or not
	free()
	if answered && reply.Accepted {
		end := f.end(order.Job)
		if end.State == job.Failed && (end.Failure.Code != job.DiskFull || end.Failure.Retryable) {
			t.Errorf("ended %s: %+v", end.State, end.Failure)
		}
	}
	f.run(job.List, job.ListSpec{})
}
