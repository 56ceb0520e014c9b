package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
)

func ids(jobs []job.Job) []job.ID {
	var ids []job.ID
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	return ids
}

func TestProgressIsNotStored(t *testing.T) {
	s, j := open(t), newJob(0)
	j.Progress = &job.Progress{Phase: "create"}
	apply(t, s, store.CreateJob(j))
	got, _, err := s.Job(j.ID)
	if err != nil || got.Progress != nil {
		t.Errorf("Job = %+v, %v", got.Progress, err)
	}
	if j.Progress == nil {
		t.Error("the caller's job was changed")
	}
}

func TestPutJobRefuses(t *testing.T) {
	tests := map[string]func(*job.Job){
		"bad id":                  func(j *job.Job) { j.ID = "42" },
		"unknown state":           func(j *job.Job) { j.State = "confused" },
		"NUL in an indexed field": func(j *job.Job) { j.Plan = "a\x00b" },
		"terminal without a time": func(j *job.Job) { j.State = job.Failed },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			s, j := open(t), newJob(0)
			spoil(&j)
			if _, err := s.Apply(store.PutJob(j)); err == nil {
				t.Error("Apply accepted it")
			}
			if counts, err := s.Counts(); err != nil || len(counts) != 0 {
				t.Errorf("Counts = %v, %v", counts, err)
			}
		})
	}
}

func TestPutJobKeepsToTheStateTable(t *testing.T) {
	for _, from := range job.States() {
		for _, to := range job.States() {
			s, j := open(t), newJob(0)
			j.State = from
			if from.Terminal() {
				j = finished(j, from, start)
			}
			apply(t, s, store.CreateJob(j))
			j.State = to
			if to.Terminal() {
				j = finished(j, to, start)
			}
			var want error
			switch {
			case from == to || from.CanBecome(to):
			case from.Terminal():
				want = store.ErrTerminal
			default:
				want = store.ErrIllegal
			}
			if _, err := s.Apply(store.PutJob(j)); !errors.Is(err, want) {
				t.Errorf("from %s to %s: %v, want %v", from, to, err, want)
			}
		}
	}
}

func TestOpenAndActiveJobs(t *testing.T) {
	s := open(t)
	var all []job.Job
	for i, state := range []job.State{job.Running, job.Queued, job.Sent, job.Running} {
		j := newJob(i)
		j.State = state
		all = append(all, j)
		apply(t, s, store.CreateJob(j))
	}
	all[3].Host, all[3].Repository = "db", "other"
	apply(t, s, store.PutJob(all[3]), store.CreateJob(finished(newJob(9), job.Succeeded, start)))

	tests := map[string]struct {
		read func() ([]job.Job, error)
		want []job.ID
	}{
		"open":               {func() ([]job.Job, error) { return s.OpenJobs() }, ids(all)},
		"open in one state":  {func() ([]job.Job, error) { return s.OpenJobs(job.Running) }, []job.ID{all[0].ID, all[3].ID}},
		"active":             {func() ([]job.Job, error) { return s.ActiveJobs("", "") }, []job.ID{all[0].ID, all[2].ID, all[3].ID}},
		"active of a host":   {func() ([]job.Job, error) { return s.ActiveJobs("web1", "") }, []job.ID{all[0].ID, all[2].ID}},
		"active of a pair":   {func() ([]job.Job, error) { return s.ActiveJobs("db", "other") }, []job.ID{all[3].ID}},
		"active of no pair":  {func() ([]job.Job, error) { return s.ActiveJobs("db", "main") }, nil},
		"finished, not open": {func() ([]job.Job, error) { return s.OpenJobs(job.Failed) }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			jobs, err := test.read()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, ids(jobs)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if n, err := s.CountActive("web1", ""); err != nil || n != 2 {
		t.Errorf("CountActive = %d, %v", n, err)
	}
}

// What the coordinator does for a host in its depot is found with the host's own
// jobs, and keeps nobody from anything there.
func TestJobsForAHost(t *testing.T) {
	s := open(t)
	own, done, other := newJob(0), newJob(1), newJob(2)
	for _, j := range []*job.Job{&own, &done, &other} {
		j.State = job.Running
	}
	done.Host, done.For = "coordinator", "web1"
	other.Host = "coordinator"
	apply(t, s, store.CreateJob(own), store.CreateJob(done), store.CreateJob(other))
	for host, want := range map[string][]job.ID{
		"web1": {done.ID, own.ID}, "coordinator": {other.ID, done.ID}, "web": nil,
	} {
		var got []job.ID
		for cursor, first := "", true; first || cursor != ""; first = false {
			page, err := s.Jobs(job.Filter{Host: host, State: job.Running, Limit: 1, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			got, cursor = append(got, ids(page.Jobs)...), page.Cursor
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("of %s: %s", host, diff)
		}
	}
	if n, err := s.CountActive("web1", ""); err != nil || n != 1 {
		t.Errorf("active on web1: %d, %v", n, err)
	}
	apply(t, s, store.PutJob(ended(own)), store.RequireNoOpenJobs("web1", ""))
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// ended is a job that has ended well.
func ended(j job.Job) job.Job { return finished(j, job.Succeeded, start) }

func TestPreconditions(t *testing.T) {
	s, running := open(t), newJob(0)
	running.State, running.Attempt = job.Running, 2
	over := finished(newJob(1), job.Failed, start)
	over.Host, over.Repository = "db", "other"
	apply(t, s, store.CreateJob(running), store.CreateJob(over))
	tests := map[string]struct {
		condition store.Change
		want      error
	}{
		"no host":             {store.RequireHost("web1"), store.ErrMissing},
		"no repository":       {store.RequireRepository("main"), store.ErrMissing},
		"open at host":        {store.RequireNoOpenJobs("web1", ""), store.ErrOpenJobs},
		"open at repository":  {store.RequireNoOpenJobs("", "main"), store.ErrOpenJobs},
		"open anywhere":       {store.RequireNoOpenJobs("", ""), store.ErrOpenJobs},
		"over at host":        {store.RequireNoOpenJobs("db", ""), nil},
		"none at the pair":    {store.RequireNoOpenJobs("web1", "other"), nil},
		"delete no host":      {store.DeleteHost("web1"), store.ErrMissing},
		"delete no repo":      {store.DeleteRepository("main"), store.ErrMissing},
		"delete no job":       {store.DeleteJob(newJob(6).ID), nil},
		"over is over":        {store.PutJob(finished(over, job.Succeeded, start)), store.ErrTerminal},
		"over may be amended": {store.PutJob(finished(over, job.Failed, start.Add(time.Hour))), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before, _ := s.Sequence()
			_, err := s.Apply(store.SetStreamPosition(before+100), test.condition)
			if !errors.Is(err, test.want) {
				t.Errorf("Apply = %v, want %v", err, test.want)
			}
			if after, _ := s.Sequence(); (after != before) != (test.want == nil) {
				t.Errorf("sequence went from %d to %d", before, after)
			}
		})
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func TestFilterFaults(t *testing.T) {
	s := open(t)
	for name, f := range map[string]job.Filter{
		"state": {State: "confused"}, "kind": {Kind: "dance"}, "limit": {Limit: job.MaxPage + 1}, "cursor": {Cursor: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Jobs(f)
			if failure := job.AsFailure(err); failure == nil || failure.Code != job.InvalidRequest {
				t.Errorf("Jobs = %v", err)
			}
		})
	}
}

func TestRecentAndFinishedSince(t *testing.T) {
	s := open(t)
	first := finished(newJob(5), job.Failed, start.Add(time.Hour))
	second := finished(newJob(4), job.Succeeded, start.Add(2*time.Hour))
	third := finished(newJob(6), job.Succeeded, start.Add(3*time.Hour))
	apply(t, s, store.CreateJob(second), store.CreateJob(third), store.CreateJob(first), store.CreateJob(newJob(9)))
	recent, err := s.Recent(2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]job.ID{third.ID, second.ID}, ids(recent)); diff != "" {
		t.Error(diff)
	}
	counts, err := s.FinishedSince(start.Add(2 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[job.State]int{job.Succeeded: 2}, counts); diff != "" {
		t.Error(diff)
	}
}

func TestPrune(t *testing.T) {
	const total = 1200 // more than two transactions
	tests := map[string]struct {
		before  time.Time
		maximum int
		gone    int
	}{
		"by nothing":   {time.Time{}, 0, 0},
		"by age":       {start.Add(700 * time.Second), 0, 700},
		"by count":     {time.Time{}, 100, 1100},
		"age is more":  {start.Add(700 * time.Second), 900, 700},
		"count more":   {start.Add(100 * time.Second), 200, 1000},
		"all by age":   {start.Add(24 * time.Hour), 0, total},
		"count enough": {time.Time{}, total, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			open, changes, want := newJob(-10), []store.Change{}, []job.ID{}
			for i := range total {
				j := finished(newJob(total-i), job.Succeeded, start.Add(time.Duration(i)*time.Second))
				changes = append(changes, store.CreateJob(j), store.PutIdempotency(string(j.ID), j.ID, start),
					store.PutAttemptState(store.AttemptState{Job: j.ID, Attempt: 1}))
				want = append(want, j.ID)
			}
			apply(t, s, append(changes, store.CreateJob(open), store.PutAttemptState(store.AttemptState{Job: open.ID, Attempt: 1}))...)
			removed, err := s.Prune(test.before, test.maximum)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[:test.gone], slices.Clip(append([]job.ID{}, removed...))); diff != "" {
				t.Error(diff)
			}
			states, err := s.AttemptStates()
			if err != nil || len(states) != total-test.gone+1 {
				t.Errorf("%d attempt states are left, %v", len(states), err)
			}
			if _, ok, err := s.JobByIdempotency(string(want[0])); err != nil || ok != (test.gone == 0) {
				t.Errorf("JobByIdempotency = %v, %v", ok, err)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}
