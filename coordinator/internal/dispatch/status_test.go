package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
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
		"No backups yet, and 2 hosts are offline":               {0, 0, items("offline", "offline")},
		"The one backup is fine":                                {0, 1, nil},
		"All 3 backups are fine":                                {0, 3, nil},
		"All 3 backups are fine, but 1 host is offline":         {0, 3, items("offline")},
		"The one backup needs attention":                        {1, 0, items("failed")},
		"All 2 backups need attention":                          {2, 0, items("failed", "warning")},
		"1 of 2 backups needs attention":                        {1, 1, items("failed")},
		"2 of 3 backups need attention":                         {2, 1, items("failed", "failed")},
		"1 of 2 backups needs attention, and 1 host is offline": {1, 1, items("failed", "offline")},
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
