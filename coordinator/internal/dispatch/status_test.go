package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

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
		if s := status(t, w); s.Summary != "1 of 1 backup needs attention" || len(s.Attention) != 1 || s.Attention[0].Kind != "failed" || s.Jobs[job.Failed] != 1 {
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
		if s := status(t, w); len(s.Attention) != 1 || s.Attention[0].Kind != "offline" || s.Summary != "1 thing needs attention" || len(s.Queued) != 1 {
			t.Errorf("a job waits for a host that is away: %q %+v", s.Summary, s.Attention)
		}
	})
}
