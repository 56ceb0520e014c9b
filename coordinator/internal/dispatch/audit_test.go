package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// audit returns the audit, oldest first, with short names for jobs.
func (w *world) audit(names map[job.ID]string) (lines []string) {
	w.t.Helper()
	page, err := w.store.Audit(fleet.AuditFilter{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range slices.Backward(page.Entries) {
		line := fmt.Sprintf("%s/%s %s %s %s (%s)", e.By, e.From, e.Action, e.Object, e.Outcome, e.Detail)
		for id, name := range names {
			line = strings.ReplaceAll(line, string(id), name)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestAuditOfJobs(t *testing.T) {
	ctx := context.Background()
	bob := fleet.Actor{Name: "operator:bob", From: "http 10.0.0.7"}
	scenario(t, func(t *testing.T, w *world) {
		good := w.submit(backup("web1", "web"))
		synctest.Wait()
		a := w.agents["web1"]
		a.tell(first(good), succeeded())
		w.mustDeliver()
		w.mustDeliver() // comes again

		bad := w.submit(backup("web1", "web"))
		synctest.Wait()
		a.tell(first(bad), failed(job.DiskFull))
		w.mustDeliver()
		again, err := w.dispatch().Retry(ctx, bob, bad.ID)
		if err != nil {
			t.Fatal(err)
		}
		w.expect(again.ID, job.Running, 1, "")
		waits, err := w.dispatch().Submit(ctx, bob, job.Request{Host: "web1", Kind: job.List, Repository: "web"})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := w.dispatch().Cancel(ctx, bob, waits.ID); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		w.remove("web1")
		w.restart()
		want := []string{
			"operator:alice/ borg.archive.create repository/web requested (host web1, job good)",
			"operator:alice/ borg.archive.create repository/web succeeded (host web1, job good)",
			"operator:alice/ borg.archive.create repository/web requested (host web1, job bad)",
			"operator:alice/ borg.archive.create repository/web failed (host web1, job bad, disk_full)",
			"operator:bob/http 10.0.0.7 job.retry job/again done (backup of web1 to web)",
			"operator:bob/http 10.0.0.7 borg.archive.create repository/web requested (host web1, job again)",
			"operator:bob/http 10.0.0.7 borg.archives.list repository/web requested (host web1, job waits)",
			"operator:bob/http 10.0.0.7 job.cancel job/waits done (list of web1 to web)",
			"operator:bob/ borg.archives.list repository/web cancelled (host web1, job waits, cancelled)",
			"operator:bob/ borg.archive.create repository/web failed (host web1, job again, interrupted)",
		}
		got := w.audit(map[job.ID]string{good.ID: "good", bad.ID: "bad", again.ID: "again", waits.ID: "waits"})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEveryKindHasItsActionInTheAudit(t *testing.T) {
	for _, kind := range job.Kinds() {
		if !strings.HasPrefix(dispatch.Action(kind), "borg.") {
			t.Errorf("kind %s has none", kind)
		}
	}
}
