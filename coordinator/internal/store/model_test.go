package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
)

// model is what the store should hold, kept the simplest way.
type model struct {
	jobs map[job.ID]job.Job
	keys map[string]job.ID
}

func (m model) clone() model { return model{maps.Clone(m.jobs), maps.Clone(m.keys)} }

// newestFirst returns the model's jobs that the filter chooses.
func (m model) newestFirst(f job.Filter) []job.Job {
	jobs := []job.Job{}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(m.jobs))) {
		j := m.jobs[id]
		chosen := (f.Host == "" || f.Host == j.Host) && (f.Repository == "" || f.Repository == j.Repository) &&
			(f.Plan == "" || f.Plan == j.Plan) && (f.State == "" || f.State == j.State) &&
			(f.Kind == "" || f.Kind == j.Kind) && !j.SubmittedAt.Before(f.Since)
		if chosen {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// spec is the smallest spec of a kind.
func spec(kind job.Kind) job.Spec {
	switch kind {
	case job.Backup:
		return job.BackupSpec{Paths: []string{"/etc"}}
	case job.Check:
		return job.CheckSpec{}
	default:
		return job.ListSpec{}
	}
}

// randomChange returns a change and what it does to the model; the error is the
// one that the store shall refuse it with.
func randomChange(r *rand.Rand, m model) (store.Change, error) {
	known := slices.Sorted(maps.Keys(m.jobs))
	if len(known) == 0 || r.IntN(3) == 0 {
		j := newJob(r.IntN(500))
		j.Kind = pick(r, job.Backup, job.Check, job.List)
		j.Host, j.Repository, j.Plan = pick(r, "web1", "web", "db"), pick(r, "main", "mai"), pick(r, "", "daily", "web1")
		j.Spec = spec(j.Kind)
		m.jobs[j.ID] = j
		return store.CreateJob(j), nil
	}
	j := m.jobs[pick(r, known...)]
	switch r.IntN(8) {
	case 0:
		delete(m.jobs, j.ID)
		maps.DeleteFunc(m.keys, func(_ string, id job.ID) bool { return id == j.ID })
		return store.DeleteJob(j.ID), nil
	case 1:
		key := pick(r, "a", "b", "a\x00b", "nightly")
		if other, taken := m.keys[key]; taken && other != j.ID {
			return store.PutIdempotency(key, j.ID, start), store.ErrExists
		}
		m.keys[key] = j.ID
		return store.PutIdempotency(key, j.ID, start), nil
	case 2:
		return store.CreateJob(j), store.ErrExists
	default:
		next := pick(r, job.States()...)
		changed := j
		changed.State, changed.Plan, changed.FinishedAt = next, pick(r, "", "daily"), nil
		if next.Terminal() {
			changed = finished(changed, next, j.SubmittedAt.Add(time.Duration(r.IntN(100))*time.Second))
		}
		if j.State.Terminal() && next != j.State {
			return store.PutJob(changed), store.ErrTerminal
		}
		if next != j.State && !j.State.CanBecome(next) {
			return store.PutJob(changed), store.ErrIllegal
		}
		m.jobs[j.ID] = changed
		return store.PutJob(changed), nil
	}
}

func TestStoreAgreesWithAModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			s, m := open(t), model{map[job.ID]job.Job{}, map[string]job.ID{}}
			for range 120 {
				attempt := m.clone()
				var changes []store.Change
				var refused error
				for range 1 + r.IntN(6) {
					change, err := randomChange(r, attempt)
					changes = append(changes, change)
					if err != nil {
						refused = err
						break
					}
				}
				if _, err := s.Apply(changes...); !errors.Is(err, refused) {
					t.Fatalf("Apply = %v, want %v", err, refused)
				}
				if refused == nil {
					m = attempt
				}
				sameAsModel(t, r, s, m)
			}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func sameAsModel(t *testing.T, r *rand.Rand, s *store.Store, m model) {
	t.Helper()
	f := job.Filter{
		Host: pick(r, "", "", "web1", "web", "nobody"), Repository: pick(r, "", "", "main", "mai"),
		Plan: pick(r, "", "", "daily"), Kind: pick(r, "", "", job.Backup, job.Check),
		State: pick(r, append([]job.State{"", "", "", ""}, job.States()...)...),
		Since: pick(r, time.Time{}, start.Add(time.Duration(r.IntN(500))*time.Second)), Limit: 1 + r.IntN(7),
	}
	want := m.newestFirst(f)
	if diff := cmp.Diff(want, allPages(t, s, f)); diff != "" {
		t.Fatalf("Jobs(%+v): %s", f, diff)
	}
	counts := map[store.JobCount]int{}
	for _, j := range m.jobs {
		counts[store.JobCount{State: j.State, Kind: j.Kind}]++
	}
	stored, err := s.Counts()
	if err != nil {
		t.Fatal(err)
	}
	got := map[store.JobCount]int{}
	for _, count := range stored {
		got[store.JobCount{State: count.State, Kind: count.Kind}] = count.Count
	}
	if diff := cmp.Diff(counts, got); diff != "" {
		t.Fatalf("Counts: %s", diff)
	}
	for key, want := range m.keys {
		if id, ok, err := s.JobByIdempotency(key); err != nil || !ok || id != want {
			t.Fatalf("JobByIdempotency(%q) = %s, %v, %v", key, id, ok, err)
		}
	}
}

// allPages reads a list to its end.
func allPages(t *testing.T, s *store.Store, f job.Filter) []job.Job {
	t.Helper()
	jobs := []job.Job{}
	for {
		page, err := s.Jobs(f)
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, page.Jobs...)
		if page.Cursor == "" {
			return jobs
		}
		if len(page.Jobs) != f.Limit {
			t.Fatalf("a page of %d jobs is not the last, with limit %d", len(page.Jobs), f.Limit)
		}
		f.Cursor = page.Cursor
	}
}
