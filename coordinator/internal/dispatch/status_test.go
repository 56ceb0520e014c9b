package dispatch_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestStatus(t *testing.T) {
	ctx := context.Background()
	status := func(t *testing.T, w *world) fleet.Status {
		t.Helper()
		synctest.Wait()
		s, err := w.dispatch().Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	end := func(w *world, event job.Event) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.agents["web1"].tell(first(j), event)
		w.mustDeliver()
	}
	scenario(t, func(t *testing.T, w *world) {
		if s := status(t, w); s.Summary != "No backups yet" || s.HostsOnline != 2 || len(s.Attention) != 0 {
			t.Errorf("fresh: %q %+v", s.Summary, s.Attention)
		}
		end(w, failed(job.DiskFull))
		if s := status(t, w); s.Summary != "The one backup needs attention" || len(s.Attention) != 1 || s.Attention[0].Kind != "failed" || s.Jobs[job.Failed] != 1 {
			t.Errorf("failed: %q %+v", s.Summary, s.Attention)
		}
		w.restart()
		w.hello("web1")
		w.hello("web2")
		if s := status(t, w); len(s.Attention) != 1 {
			t.Errorf("after a restart: %q %+v", s.Summary, s.Attention)
		}
		end(w, job.Event{Type: job.EventFinished, State: job.Warning, Result: &job.Result{Warnings: []string{"/x: changed", "/y: changed"}}})
		if s := status(t, w); len(s.Attention) != 1 || s.Attention[0].Kind != "warning" || !strings.HasSuffix(s.Attention[0].Message, "/x: changed and 1 more") {
			t.Errorf("warning: %q %+v", s.Summary, s.Attention)
		}
		end(w, succeeded())
		if s := status(t, w); s.Summary != "The one backup is fine" || len(s.Attention) != 0 || len(s.Recent) != 3 {
			t.Errorf("succeeded: %q %+v", s.Summary, s.Attention)
		}
		w.dispatch().HostDisconnected("web2")
		if s := status(t, w); len(s.Attention) != 0 || s.HostsOnline != 1 {
			t.Errorf("an idle host went: %+v", s.Attention)
		}
		w.submit(backup("web2", "db"))
		if s := status(t, w); len(s.Attention) != 1 || s.Attention[0].Kind != "offline" || s.Summary != "The one backup is fine, but 1 host is offline" || len(s.Queued) != 1 {
			t.Errorf("a job waits for a host that is away: %q %+v", s.Summary, s.Attention)
		}
	})
}

func TestStatusNamesKeysWithoutACopy(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		if _, err := w.store.Apply(store.CreateRepository(fleet.Repository{
			Repository: job.Repository{Name: "plain", Location: "/srv/plain", Encryption: job.Unencrypted},
		})); err != nil {
			t.Fatal(err)
		}
		check := func(want ...string) {
			t.Helper()
			s, err := w.dispatch().Status(context.Background())
			if diff := cmp.Diff(want, s.KeysNotExported); diff != "" || err != nil {
				t.Errorf("%s, %v", diff, err)
			}
		}
		check("db", "web")
		export := job.Request{
			Host: "web1", Kind: job.KeyExport, Repository: "web",
			Spec: json.RawMessage(`{"recipient":"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}`),
		}
		j := w.submit(export)
		synctest.Wait()
		w.agents["web1"].tell(first(j), failed(job.DiskFull))
		w.mustDeliver()
		check("db", "web")
		j = w.submit(export)
		synctest.Wait()
		w.agents["web1"].tell(first(j), job.Event{Type: job.EventFinished, State: job.Succeeded, Result: &job.Result{KeyExport: "-----BEGIN AGE"}})
		w.mustDeliver()
		check("db")
		if record, err := w.store.RepositoryRecord("web"); err != nil || record.KeyExportedAt == nil {
			t.Errorf("record %+v, %v", record, err)
		}
		export.Repository = "plain"
		if _, err := w.dispatch().Submit(context.Background(), fleet.Actor{}, export); job.AsFailure(err).Code != job.InvalidSpec {
			t.Errorf("export of a key that is not there: %v", err)
		}
	})
}

func TestAttentionToClocksAndOtherThings(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		tick := func(skew time.Duration) fleet.Status {
			t.Helper()
			hello := w.agents["web1"].hello()
			hello.At = time.Now().Add(skew)
			if _, err := w.dispatch().HandleHello(context.Background(), hello); err != nil {
				t.Fatal(err)
			}
			s, err := w.dispatch().Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		for skew, want := range map[time.Duration]string{
			-time.Minute:      "",
			time.Minute:       "",
			90 * time.Second:  "the clock of host web1 is 1 min 30 s ahead of the coordinator's",
			-61 * time.Second: "the clock of host web1 is 1 min 1 s behind the coordinator's",
		} {
			s := tick(skew)
			if want == "" && len(s.Attention) == 0 {
				continue
			}
			if len(s.Attention) != 1 || s.Attention[0].Kind != "clock" || s.Attention[0].Message != want || s.Attention[0].Host != "web1" ||
				strings.Contains(s.Attention[0].Hint, "refuses orders") != (skew > 0) {
				t.Errorf("skew %s: %+v", skew, s.Attention)
			}
		}
		tick(0)
		w.attention = func() []fleet.Attention { return []fleet.Attention{{Kind: "certificate", Message: "expires soon"}} }
		w.restart()
		s, err := w.dispatch().Status(context.Background())
		if err != nil || len(s.Attention) != 1 || s.Attention[0].Kind != "certificate" || s.Summary != "No backups yet, and 1 other thing needs attention" {
			t.Errorf("%q %+v, %v", s.Summary, s.Attention, err)
		}
	})
}

func TestSummary(t *testing.T) {
	jobs := func(bad, good int) (latest []job.Job) {
		for range bad {
			latest = append(latest, job.Job{Kind: job.Backup, State: job.Failed})
		}
		for range good {
			latest = append(latest, job.Job{Kind: job.Backup, State: job.Succeeded}, job.Job{Kind: job.Check, State: job.Failed})
		}
		return latest
	}
	items := func(kinds ...string) (items []fleet.Attention) {
		for _, kind := range kinds {
			items = append(items, fleet.Attention{Kind: kind})
		}
		return items
	}
	for want, c := range map[string]struct {
		bad, good int
		items     []fleet.Attention
	}{
		"No backups yet": {},
		"No backups yet, and 2 hosts are offline":                                                {0, 0, items("offline", "offline")},
		"The one backup is fine":                                                                 {0, 1, nil},
		"All 3 backups are fine":                                                                 {0, 3, nil},
		"All 3 backups are fine, but 1 host is offline":                                          {0, 3, items("offline")},
		"The one backup needs attention":                                                         {1, 0, items("failed")},
		"All 2 backups need attention":                                                           {2, 0, items("failed", "warning")},
		"1 of 2 backups needs attention":                                                         {1, 1, items("failed")},
		"2 of 3 backups need attention":                                                          {2, 1, items("failed", "failed")},
		"1 of 2 backups needs attention, and 1 host is offline":                                  {1, 1, items("failed", "offline")},
		"The one backup is fine, but 1 host has a wrong clock":                                   {0, 1, items("clock")},
		"All 2 backups are fine, but 1 host has no usable borg, and 2 other jobs need attention": {0, 2, items("failed", "no_borg", "warning")},
	} {
		if got := dispatch.Summary(make([]fleet.HostView, 1), jobs(c.bad, c.good), c.items); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got, want := dispatch.Summary(nil, nil, nil), "No hosts yet"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDamageNeedsAttention(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		attention := func() fleet.Attention {
			t.Helper()
			status, err := w.dispatch().Status(context.Background())
			if err != nil || len(status.Attention) != 1 {
				t.Fatalf("attention is %+v, %v", status.Attention, err)
			}
			return status.Attention[0]
		}
		w.does(request(job.Check, ""), failed(job.IntegrityError))
		if a := attention(); a.Kind != "failed" || a.Repository != "web" {
			t.Errorf("after a check that failed: %+v", a)
		}
		w.does(request(job.Check, ""), ended(job.Warning, job.Result{Damaged: []string{"home/a", "home/b"}, Warnings: []string{"something"}}))
		want := "check of web1 to web ended with warnings, and found damage: home/a and 1 more"
		if a := attention(); a.Kind != "warning" || a.Message != want || a.Hint == "" {
			t.Errorf("after a check that met old damage: %+v", a)
		}
	})
}

// A plan's backup that never began is missed, of which the plan tells; others say
// which plan they are of.
func TestWhatPlansMissIsToldOnce(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		attention := func() []fleet.Attention {
			t.Helper()
			status, err := w.dispatch().Status(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return status.Attention
		}
		p := within(job.Window{Hours: "12:00-13:00"})
		p.ExpiresIn = 600
		w.apply(store.CreatePlan(fleet.Plan{Name: p.Plan, CreatedAt: time.Now()}, time.Now()))
		id := w.plan(p)[0].Job.ID
		w.until("00:11:00")
		w.expect(id, job.Expired, 0, "")
		if a := attention(); len(a) != 0 {
			t.Errorf("a backup that was missed: %+v", a)
		}
		next := planned("web1", "web", "R2")
		next.IdempotencyKey = "next"
		j := w.plan(next)[0].Job
		w.expect(j.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(j), job.Event{Type: job.EventStarted, PID: 42})
		time.Sleep(time.Second)
		w.agents["web1"].tell(first(j), failed(job.PassphraseWrong))
		w.mustDeliver()
		w.expect(j.ID, job.Failed, 1, "")
		if a := attention(); len(a) != 1 || !strings.Contains(a[0].Message, "backup of web1 to web by plan "+j.Plan+" failed: ") {
			t.Errorf("a backup that failed: %+v", a)
		}
	})
}
