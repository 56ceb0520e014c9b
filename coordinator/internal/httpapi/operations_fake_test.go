package httpapi_test

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// borg plays the hosts behind a backend's SubmitWith.
type borg struct {
	play   func(j job.Job) job.Job // what becomes of a job; nil: it stays queued
	given  []secret.Value          // with each submission
	kept   map[string]secret.Value // by repository
	refuse error                   // what SubmitWith returns when set
}

func (b *backend) SubmitWith(ctx context.Context, by fleet.Actor, request job.Request, passphrase secret.Value) (job.Job, error) {
	b.mu.Lock()
	refuse := b.borg.refuse
	b.borg.given = append(b.borg.given, passphrase)
	if _, ok := b.repositories[""]; !ok && !request.Kind.NeedsRepository() {
		b.repositories[""] = fleet.RepositoryView{} // Submit looks for it
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.repositories, "")
		}()
	}
	b.mu.Unlock()
	if refuse == nil {
		refuse = needs(bus.Admin, by)
	}
	if refuse != nil {
		return job.Job{}, refuse
	}
	submitted, err := b.Submit(ctx, by, request)
	if err == nil {
		b.mu.Lock()
		play := b.borg.play
		b.mu.Unlock()
		if play != nil {
			b.change(play(submitted))
		}
	}
	return submitted, err
}

// change puts a job into another state, as the feed tells.
func (b *backend) change(changed job.Job) {
	b.mu.Lock()
	for i := range b.jobs {
		if b.jobs[i].ID == changed.ID {
			b.jobs[i] = changed
		}
	}
	b.mu.Unlock()
	b.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &changed, Host: changed.Host, Repository: changed.Repository})
}

func (b *backend) Adopt(_ context.Context, _ fleet.Actor, location string, encryption job.Encryption) (fleet.RepositoryView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	view := fleet.RepositoryView{Repository: fleet.Repository{
		Repository: job.Repository{Name: "new", Location: location, Encryption: encryption},
		Custody:    fleet.CustodyCoordinator, Pending: true, CreatedAt: time.Now().UTC(),
	}}
	if err := view.Validate(); err != nil {
		return fleet.RepositoryView{}, err
	}
	b.repositories[view.Name] = view
	return view, nil
}

func (b *backend) Keep(_ context.Context, _ fleet.Actor, name string, passphrase secret.Value) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	view := b.repositories[name]
	view.Pending, view.HasPassphrase = false, !passphrase.Empty()
	b.repositories[name] = view
	if b.borg.kept == nil {
		b.borg.kept = map[string]secret.Value{}
	}
	b.borg.kept[name] = passphrase
	return nil
}

func (b *backend) Abandon(_ context.Context, _ fleet.Actor, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.repositories[name].Pending {
		delete(b.repositories, name)
	}
	return nil
}

// ended is a job that has ended well with a result.
func ended(j job.Job, result job.Result) job.Job {
	at := time.Now().UTC()
	result.BorgVersion, result.Duration = "1.2.4", 1.5
	j.State, j.Attempt, j.StartedAt, j.FinishedAt, j.Result = job.Succeeded, 1, &at, &at, &result
	j.Attempts = []job.Attempt{{Number: 1, State: job.Succeeded, SentAt: at, StartedAt: &at, FinishedAt: &at, PID: 4711}}
	return j
}

// failed is a job that has failed.
func failed(j job.Job, code job.Code) job.Job {
	j = ended(j, job.Result{})
	j.State, j.Result = job.Failed, nil
	j.Failure = job.Fail(code, "borg said no").WithHint("ask it nicely")
	return j
}

// told is what a host brings of a job of each kind.
func told(j job.Job) job.Job {
	freed, modified := int64(212000000), time.Date(2026, 11, 22, 3, 0, 0, 0, time.FixedZone("CET", 3600))
	switch spec := j.Spec.(type) {
	case job.InitSpec:
		return ended(j, job.Result{}) // borg says nothing
	case job.BackupSpec:
		result := job.Result{Archive: spec.Archive, OriginalSize: 1000, CompressedSize: 500, DeduplicatedSize: 250, NFiles: 3}
		result.SetRatios()
		return ended(j, result)
	case job.ListSpec:
		return ended(j, job.Result{Archives: []job.Archive{{Name: "web1_20261122_020000", ID: "5e5e", Start: modified, Hostname: "web1", Username: "root"}}})
	case job.RestoreSpec:
		return ended(j, job.Result{Archive: spec.Archive, Target: spec.Target})
	case job.DeleteSpec:
		return ended(j, job.Result{Deleted: spec.Archives})
	case job.PruneSpec:
		return ended(j, job.Result{
			Kept: []string{"web1-3", "web1-1"}, KeptBy: map[string]string{"web1-3": "daily #1"}, KeptOmitted: 2, Pruned: []string{"web1-2"}, PrunedOmitted: 1,
		})
	case job.CompactSpec:
		return ended(j, job.Result{FreedBytes: &freed})
	case job.InfoSpec:
		return ended(j, job.Result{Repository: &job.RepositoryInfo{
			ID: "aa8e", Location: "/srv/borg/main", LastModified: &modified, Encryption: job.Repokey, UniqueChunks: 7, TotalChunks: 9, TotalSize: 4000, UniqueCSize: 1000,
		}})
	case job.MountSpec:
		j = ended(j, job.Result{})
		j.State, j.FinishedAt, j.Result, j.Progress = job.Running, nil, nil, &job.Progress{Phase: job.PhaseMounted}
		return j
	default:
		return ended(j, job.Result{})
	}
}
