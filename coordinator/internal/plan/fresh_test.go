package plan_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// freshCase is a row of one host that was backed up, or not, on Monday at 02:10.
type freshCase struct {
	change  func(*fleet.PlanSpec)
	pause   *fleet.Pause
	resumed time.Time
	notes   []store.Change
	now     time.Time
	state   fleet.FreshState
	message string // begins so
	wrong   []string
}

func freshCases() map[string]freshCase {
	backup := fleet.BackupSummary{Job: job.NewID(monday), Host: "web1", Repository: "main", State: job.Succeeded, FinishedAt: day(0, "02:10"), NFiles: 9}
	good := store.NoteBackup("daily", store.Sample{BackupSummary: backup})
	dump := store.NoteBackup("daily", store.Sample{BackupSummary: backup, Dump: "pg"})
	held := store.HoldBackup("daily", "web1", "main", fleet.Suspicion{Job: backup.Job, At: day(0, "02:10"), Message: "9 files", Holds: true})
	until := day(9, "00:00")
	testing := func(p *fleet.PlanSpec) {
		p.Check, p.RestoreTest = &fleet.CheckPolicy{Every: "7d"}, &fleet.RestoreTest{Every: "30d"}
	}
	dumping := func(p *fleet.PlanSpec) { p.Dumps = []fleet.Dump{{Hook: "pg"}} }
	return map[string]freshCase{
		"new":                 {now: day(0, "03:00"), state: fleet.NeverYet},
		"never, for too long": {now: day(3, "02:00"), state: fleet.Overdue, message: "there was no good backup yet", wrong: []string{"overdue web1"}},
		"fresh":               {notes: []store.Change{good}, now: day(1, "01:00"), state: fleet.Fresh},
		"just fresh":          {notes: []store.Change{good}, now: day(2, "03:09"), state: fleet.Fresh},
		"overdue":             {notes: []store.Change{good}, now: day(2, "03:10"), state: fleet.Overdue, message: "the newest good backup is", wrong: []string{"overdue web1"}},
		"an age of its own": {
			change: func(p *fleet.PlanSpec) { p.MaxAge = "7d" }, notes: []store.Change{good}, now: day(6, "00:00"), state: fleet.Fresh,
		},
		"by hand, of any age": {change: func(p *fleet.PlanSpec) { p.Schedule = nil }, notes: []store.Change{good}, now: day(300, "00:00"), state: fleet.Fresh},
		"paused":              {pause: &fleet.Pause{By: "alice", Until: &until}, notes: []store.Change{good}, now: day(6, "00:00"), state: fleet.PlanPaused, message: "paused by alice"},
		"a pause has just ended": {
			pause: &fleet.Pause{By: "alice", Until: &until}, notes: []store.Change{good}, now: day(9, "00:00"), state: fleet.Fresh,
		},
		"a pause has ended, and the next run is to come": {resumed: until, notes: []store.Change{good}, now: day(9, "02:30"), state: fleet.Fresh},
		"a pause has ended, and nothing was heard since": {
			resumed: until, notes: []store.Change{good}, now: day(11, "01:00"), state: fleet.Overdue, message: "the newest good", wrong: []string{"overdue web1"},
		},
		"a pause has ended, and the run after it has failed": {
			resumed: until, notes: []store.Change{good, store.NoteOutcome("daily", "web1", "main", fleet.RunFailed, day(9, "02:20"))}, now: day(9, "02:30"),
			state: fleet.Overdue, message: "the newest good", wrong: []string{"overdue web1"},
		},
		"a pause has ended before the first backup": {resumed: until, now: day(10, "00:00"), state: fleet.NeverYet},
		"checks after a pause": {
			change: func(p *fleet.PlanSpec) { testing(p); p.MaxAge = "90d" }, resumed: day(31, "00:00"), notes: []store.Change{good}, now: day(32, "23:59"), state: fleet.Fresh,
		},
		"checks after a pause, still not done": {
			change: func(p *fleet.PlanSpec) { testing(p); p.MaxAge = "90d" }, resumed: day(31, "00:00"), notes: []store.Change{good}, now: day(33, "00:00"), state: fleet.Stale,
			message: "never yet the repository was checked", wrong: []string{"check_old ", "restore_test_old web1"},
		},
		"suspicious": {
			notes: []store.Change{good, held}, now: day(1, "00:00"), state: fleet.Suspicious, message: "the backup of 2026-03-23 02:10 UTC looks suspicious: 9 files",
			wrong: []string{"suspicious web1"},
		},
		"suspicion is off": {
			change: func(p *fleet.PlanSpec) { p.Suspicion = fleet.SuspectOff }, notes: []store.Change{good, held}, now: day(1, "00:00"), state: fleet.Fresh,
		},
		"overdue is worse": {notes: []store.Change{good, held}, now: day(5, "00:00"), state: fleet.Overdue, message: "the newest", wrong: []string{"overdue web1", "suspicious web1"}},
		"missed": {
			notes: []store.Change{good, store.NoteOutcome("daily", "web1", "main", fleet.RunMissed, day(1, "02:00"))}, now: day(1, "03:00"), state: fleet.Fresh,
			wrong: []string{"missed web1"},
		},
		"missed, and made up": {
			notes: []store.Change{store.NoteOutcome("daily", "web1", "main", fleet.RunMissed, day(0, "02:00")), good}, now: day(1, "01:00"), state: fleet.Fresh,
		},
		"checks are not due yet": {change: testing, notes: []store.Change{good}, now: day(1, "00:00"), state: fleet.Fresh},
		"checks are too old": {
			change: func(p *fleet.PlanSpec) { testing(p); p.MaxAge = "90d" }, notes: []store.Change{good}, now: day(31, "00:00"), state: fleet.Stale,
			message: "never yet the repository was checked", wrong: []string{"check_old ", "restore_test_old web1"},
		},
		"checked and tested": {
			change: func(p *fleet.PlanSpec) { testing(p); p.MaxAge = "90d" }, now: day(31, "00:00"), state: fleet.Fresh,
			notes: []store.Change{good, store.NoteRestoreTest("daily", "web1", "main", "job", day(20, "00:00")), store.PutRepositoryRecord("main", store.RepositoryRecord{LastCheck: new(day(30, "00:00"))})},
		},
		"a dump is missing": {change: dumping, notes: []store.Change{good}, now: day(1, "00:00"), state: fleet.NeverYet},
		"with its dump":     {change: dumping, notes: []store.Change{good, dump}, now: day(1, "00:00"), state: fleet.Fresh},
		"only a dump": {
			change: func(p *fleet.PlanSpec) { dumping(p); p.Paths = nil }, notes: []store.Change{dump}, now: day(1, "00:00"), state: fleet.Fresh,
		},
		"content from a hook": {
			change: func(p *fleet.PlanSpec) { p.Paths, p.ContentFrom = nil, "pg" }, notes: []store.Change{dump}, now: day(1, "00:00"), state: fleet.Fresh,
		},
	}
}

func TestFreshness(t *testing.T) {
	for name, c := range freshCases() {
		t.Run(name, func(t *testing.T) {
			s := withPlans(t, 0, monday)
			spec := simple()
			spec.Schedule = &fleet.Schedule{Cron: "0 2 * * *"}
			if c.change != nil {
				c.change(&spec)
			}
			stored := fleet.Plan{Name: "daily", PlanSpec: spec, CreatedAt: monday, ChangedAt: monday, Pause: c.pause, ResumedAt: c.resumed}
			changes := append([]store.Change{store.CreateHost(fleet.Host{Name: "web1", CreatedAt: monday}), store.CreatePlan(stored, monday)}, c.notes...)
			if _, err := s.Apply(changes...); err != nil {
				t.Fatal(err)
			}
			service := newService(t, s, &taker{}, func() time.Time { return c.now })
			rows, err := service.Freshness(context.Background())
			if err != nil || len(rows) != 1 || rows[0].State != c.state || !strings.HasPrefix(rows[0].Message, c.message) || (rows[0].Message == "") != (c.message == "") {
				t.Errorf("%+v, %v", rows, err)
			}
			var wrong []string
			for _, condition := range service.Conditions() {
				wrong = append(wrong, condition.Kind+" "+condition.Host)
			}
			if diff := cmp.Diff(c.wrong, wrong); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNobodyIsLeft(t *testing.T) {
	s := withPlans(t, 0, monday)
	spec := simple()
	spec.Hosts, spec.Selector = nil, map[string]string{"role": "mail"}
	if _, err := s.Apply(store.CreatePlan(fleet.Plan{Name: "daily", PlanSpec: spec, ChangedAt: monday}, monday)); err != nil {
		t.Fatal(err)
	}
	found := newService(t, s, &taker{}, func() time.Time { return monday }).Conditions()
	if len(found) != 1 || found[0].Kind != "no_hosts" || found[0].Plan != "daily" {
		t.Errorf("%+v", found)
	}
}
