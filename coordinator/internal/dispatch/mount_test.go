package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestJobsWithoutARepository(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		watcher := w.feed.Watch()
		defer watcher.Close()
		for _, kind := range []job.Kind{job.Verify, job.Umount} {
			r := job.Request{Host: "web1", Kind: kind}
			if kind == job.Umount {
				r.Spec = []byte(`{"mount_point":"/var/restore/mnt"}`)
			}
			j := w.does(r, ended(job.Succeeded, job.Result{}))
			order := w.agents["web1"].orders[len(w.agents["web1"].orders)-1]
			if j.State != job.Succeeded || order.Kind != kind || order.Repository != (job.Repository{}) || order.Passphrase != nil {
				t.Errorf("job %+v with order %+v", j, order)
			}
			page, err := w.store.Audit(fleet.AuditFilter{Action: "borg.", Limit: 10})
			if err != nil || page.Entries[0].Object != "host/web1" || page.Entries[0].Outcome != "succeeded" {
				t.Errorf("%s: audit has %+v, %v", kind, page.Entries, err)
			}
			again, err := w.dispatch().Retry(context.Background(), fleet.Actor{Name: "operator:alice", Role: "admin"}, j.ID)
			if err != nil {
				t.Fatal(err)
			}
			w.expect(again.ID, job.Running, 1, "")
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{Name: "operator:alice"}, again.ID); err != nil {
				t.Fatal(err)
			}
			w.hello("web1")
			w.agents["web1"].tell(first(again), job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.mustDeliver()
			page, err = w.store.Audit(fleet.AuditFilter{Action: "job.cancel", Limit: 1})
			if err != nil || page.Entries[0].Detail != string(kind)+" of web1" {
				t.Errorf("audit has %+v, %v", page.Entries, err)
			}
		}
		verify := w.does(request(job.Verify, ""), ended(job.Succeeded, job.Result{}))
		order := w.agents["web1"].orders[len(w.agents["web1"].orders)-1]
		if verify.Repository != "web" || order.Repository.Name != "web" || order.Passphrase == nil {
			t.Errorf("to verify with a repository has the order %+v", order)
		}
		if err := w.store.Check(); err != nil {
			t.Error(err)
		}
	})
}

const mountSpec = `{"archive":"a","mount_point":"/var/restore/mnt"}`

func TestMountLetsOthersWork(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.halt()
		w.limits.PerHost, w.limits.Timeout = 1, time.Hour
		w.openStore()
		w.start()
		w.hello("web1")
		w.hello("web2")
		mount := w.submit(request(job.Mount, mountSpec))
		w.expect(mount.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(mount), job.Event{Type: job.EventStarted, PID: 77})
		w.mustDeliver()
		if j := w.job(mount.ID); j.Attempts[0].PID != 77 || j.Timeout != 0 {
			t.Errorf("mount is %+v", j)
		}
		list := w.submit(list("web1", "web"))
		w.expect(list.ID, job.Running, 1, "")
		prune := w.submit(request(job.Compact, ""))
		reason := "repository web is mounted at /var/restore/mnt by job …" + mount.ID.Short() + ": borgfleet archive umount /var/restore/mnt --host web1"
		w.expect(prune.ID, job.Queued, 0, reason)
		if prune.Timeout != 3600 {
			t.Errorf("the limit of others is %d", prune.Timeout)
		}
		w.restart()
		w.hello("web1")
		umount := w.submit(job.Request{Host: "web1", Kind: job.Umount, Spec: []byte(`{"mount_point":"/var/restore/mnt"}`)})
		w.expect(umount.ID, job.Running, 1, "")
		for _, j := range []job.Job{umount, mount, list} {
			w.agents["web1"].tell(first(j), ended(job.Succeeded, job.Result{}))
		}
		w.mustDeliver()
		w.hello("web1")
		w.expect(prune.ID, job.Running, 1, "")
	})
}

func TestAMountThatKeepsOthersWaitingIsShown(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		mount := w.submit(request(job.Mount, mountSpec))
		w.expect(mount.ID, job.Running, 1, "")
		items := func() []fleet.Attention {
			t.Helper()
			w.hello("web1")
			status, err := w.dispatch().Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return status.Attention
		}
		pass := func(d time.Duration) {
			for range int(d / (10 * time.Second)) {
				w.hello("web1")
				time.Sleep(10 * time.Second)
			}
		}
		pass(2 * time.Hour)
		if got := items(); len(got) != 0 {
			t.Errorf("nobody waits, and %+v", got)
		}
		backup := w.submit(backup("web1", "web"))
		pass(50 * time.Minute)
		if got := items(); len(got) != 0 {
			t.Errorf("after 50 minutes: %+v", got)
		}
		pass(20 * time.Minute)
		got := items()
		if len(got) != 1 || got[0].Kind != "mount" || got[0].Job != mount.ID || !got[0].Since.Equal(backup.SubmittedAt) ||
			!strings.Contains(got[0].Message, "/var/restore/mnt") || !strings.Contains(got[0].Hint, "borgfleet archive umount /var/restore/mnt --host web1") {
			t.Errorf("after an hour: %+v", got)
		}
	})
}

func TestDownloadsAreNotRepeated(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		download := request(job.Download, `{"archive":"a"}`)
		j := w.does(download, failed(job.ConnectionLost))
		if j.State != job.Failed || j.Attempt != 1 {
			t.Errorf("download is %+v", j)
		}
		_, err := w.dispatch().Retry(context.Background(), fleet.Actor{}, j.ID)
		if f := job.AsFailure(err); f == nil || f.Code != job.Conflict || !strings.Contains(f.Hint, "download it again") {
			t.Errorf("retry: %v", err)
		}
		many := download
		many.MaxAttempts = 2
		if _, err := w.dispatch().SubmitWith(context.Background(), fleet.Actor{}, many, secret.Value{}); job.AsFailure(err).Code != job.InvalidRequest {
			t.Errorf("a download in several attempts: %v", err)
		}
		content := w.submit(request(job.List, `{"archive":"a"}`))
		for attempt := 1; attempt <= 3; attempt++ { // each start of the coordinator costs an attempt
			w.expect(content.ID, job.Running, attempt, "")
			w.agents["web1"].tell(key{content.ID, attempt}, failed(job.ConnectionLost))
			w.mustDeliver()
			w.restart()
			time.Sleep(time.Minute)
			w.hello("web1")
		}
		w.over(content.ID, job.Failed, job.ConnectionLost)
	})
}

// TestADownloadThatWaitedOverAStart has nobody left who reads it.
func TestADownloadThatWaitedOverAStart(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		writer := w.submit(backup("web2", "web"))
		w.expect(writer.ID, job.Running, 1, "")
		j := w.submit(request(job.Download, `{"archive":"a"}`))
		if got := w.job(j.ID); got.State != job.Queued {
			t.Fatalf("download is %s", got.State)
		}
		w.restart()
		w.over(j.ID, job.Failed, job.Interrupted, "nobody reads")
		w.hello("web2")
		w.expect(writer.ID, job.Running, 1, "")
	})
}
