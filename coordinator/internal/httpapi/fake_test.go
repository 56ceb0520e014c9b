package httpapi_test

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// backend is a whole coordinator in memory: it does what the real services
// promise at this edge, and no more.
type backend struct {
	mu           sync.Mutex
	jobs         []job.Job // oldest first
	keys         map[string]job.ID
	hosts        map[string]fleet.HostView
	repositories map[string]fleet.RepositoryView
	passphrases  map[string]secret.Value
	sealed       map[string]fleet.SealedPassphrase
	log          fleet.JobLog
	submitters   []string
	fail         error // what every call returns when set
	panics       any   // what Status panics with when set
	borg         borg  // what plays the hosts
	shelf        shelf // what is known of archives, and comes from them
	outside      outside
	feed         *feed.Feed
}

func newBackend() *backend {
	return &backend{
		keys: map[string]job.ID{}, hosts: map[string]fleet.HostView{}, repositories: map[string]fleet.RepositoryView{},
		passphrases: map[string]secret.Value{}, feed: feed.New(),
	}
}

func (b *backend) Submit(_ context.Context, by fleet.Actor, request job.Request) (job.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return job.Job{}, b.fail
	}
	if id, ok := b.keys[request.IdempotencyKey]; ok && request.IdempotencyKey != "" {
		return b.find(id)
	}
	spec, err := job.ParseSpec(request.Kind, request.Spec)
	if err != nil {
		return job.Job{}, err
	}
	subject := ""
	if b.repositories[request.Repository].InDepot() && (fleet.OnDepot(request.Kind) || request.Host == "") {
		request.Host, subject = fleet.LocalHost, request.Host
	} else if _, ok := b.hosts[request.Host]; !ok {
		return job.Job{}, job.Fail(job.UnknownHost, "there is no host %q", request.Host).WithHint("add it")
	}
	if _, ok := b.repositories[request.Repository]; !ok {
		return job.Job{}, job.Fail(job.UnknownRepository, "there is no repository %q", request.Repository)
	}
	j := job.Job{
		ID: job.NewID(time.Now().Add(time.Duration(len(b.jobs)) * time.Millisecond)), Kind: request.Kind, Host: request.Host, For: subject,
		Repository: request.Repository, Plan: request.Plan, State: job.Queued, Priority: request.Priority,
		MaxAttempts: max(request.MaxAttempts, 1), SubmittedBy: by.Name, SubmittedAt: time.Now().UTC(), Spec: spec,
	}
	b.jobs = append(b.jobs, j)
	b.submitters = append(b.submitters, by.Name)
	if request.IdempotencyKey != "" {
		b.keys[request.IdempotencyKey] = j.ID
	}
	return j, nil
}

func (b *backend) find(id job.ID) (job.Job, error) {
	for _, j := range b.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return job.Job{}, job.Fail(job.UnknownJob, "there is no job %s", id).WithHint("list the jobs")
}

func (b *backend) Job(_ context.Context, id job.ID) (job.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return job.Job{}, b.fail
	}
	return b.find(id)
}

func (b *backend) Jobs(_ context.Context, f job.Filter) (job.Page, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return job.Page{}, b.fail
	}
	if err := f.Validate(); err != nil {
		return job.Page{}, err
	}
	limit := f.Limit
	if limit == 0 {
		limit = job.DefaultPage
	}
	var page job.Page
	for _, j := range slices.Backward(b.jobs) {
		matches := (f.Host == "" || j.Host == f.Host) && (f.Repository == "" || j.Repository == f.Repository) &&
			(f.State == "" || j.State == f.State) && (f.Kind == "" || j.Kind == f.Kind) && (f.Plan == "" || j.Plan == f.Plan) &&
			!j.SubmittedAt.Before(f.Since) && (f.Cursor == "" || string(j.ID) < f.Cursor)
		if !matches {
			continue
		}
		if len(page.Jobs) == limit {
			page.Cursor = string(page.Jobs[limit-1].ID)
			break
		}
		page.Jobs = append(page.Jobs, j)
	}
	return page, nil
}

func (b *backend) Cancel(_ context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.jobs {
		if b.jobs[i].ID != id {
			continue
		}
		if b.jobs[i].State.Terminal() {
			return job.Job{}, job.Fail(job.Conflict, "job is over")
		}
		b.jobs[i].State, b.jobs[i].CancelRequested = job.Cancelled, true
		b.submitters = append(b.submitters, by.Name)
		return b.jobs[i], nil
	}
	return b.find(id)
}

func (b *backend) Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	b.mu.Lock()
	old, err := b.find(id)
	b.mu.Unlock()
	if err != nil {
		return job.Job{}, err
	}
	if !old.State.Terminal() {
		return job.Job{}, job.Fail(job.Conflict, "job is not over")
	}
	return b.Submit(ctx, by, job.Request{Host: old.Host, Kind: old.Kind, Repository: old.Repository, Spec: []byte(`{"paths":["/etc"]}`)})
}

func (b *backend) Log(_ context.Context, id job.ID, after int) (fleet.JobLog, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.find(id); err != nil {
		return fleet.JobLog{}, err
	}
	log := b.log
	log.Lines = log.Lines[min(after, len(log.Lines)):]
	log.Next = len(b.log.Lines)
	return log, nil
}

func (b *backend) Status(context.Context) (fleet.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.panics != nil {
		panic(b.panics)
	}
	if b.fail != nil {
		return fleet.Status{}, b.fail
	}
	status := fleet.Status{Summary: "All is well", At: time.Now().UTC(), Version: "test", HostsTotal: len(b.hosts), Jobs: map[job.State]int{}}
	for _, host := range b.hosts {
		status.Hosts = append(status.Hosts, host)
	}
	for _, j := range b.jobs {
		status.Jobs[j.State]++
		switch {
		case j.State == job.Queued:
			status.Queued = append(status.Queued, j)
		case j.State.Terminal():
			status.Recent = append(status.Recent, j)
		default:
			status.Running = append(status.Running, j)
		}
	}
	return status, nil
}

func (b *backend) AddHost(_ context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := needs(bus.Admin, by); err != nil {
		return fleet.HostView{}, err
	}
	if _, ok := b.hosts[name]; ok {
		return fleet.HostView{}, job.Fail(job.Conflict, "there is already a host %q", name)
	}
	host := fleet.HostView{Host: fleet.Host{Name: name, Mode: fleet.ModeAgent, Labels: labels, CreatedAt: time.Now().UTC()}}
	b.hosts[name] = host
	b.submitters = append(b.submitters, by.Name)
	return host, nil
}

func (b *backend) Host(_ context.Context, name string) (fleet.HostView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	host, ok := b.hosts[name]
	if !ok {
		return fleet.HostView{}, job.Fail(job.UnknownHost, "there is no host %q", name).WithHint("add it")
	}
	return host, nil
}

func (b *backend) Hosts(context.Context) ([]fleet.HostView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var hosts []fleet.HostView
	for _, host := range b.hosts {
		hosts = append(hosts, host)
	}
	return hosts, b.fail
}

func (b *backend) RemoveHost(_ context.Context, _ fleet.Actor, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.hosts[name]; !ok {
		return job.Fail(job.UnknownHost, "there is no host %q", name)
	}
	delete(b.hosts, name)
	return nil
}

func (b *backend) AddRepository(_ context.Context, _ fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	repository := job.Repository{Name: asked.Name, Location: asked.Location, Encryption: asked.Encryption}
	if repository.Encryption == "" {
		repository.Encryption = job.RepokeyBlake2
	}
	if err := repository.Validate(); err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	var generated secret.Value
	passphrase := asked.Passphrase
	if asked.Generate {
		generated = secret.FromString("made-for-you")
		passphrase = generated
	}
	b.passphrases[asked.Name], b.sealed, b.outside.depot = passphrase, asked.Sealed, asked.Depot
	view := fleet.RepositoryView{Repository: fleet.Repository{Repository: repository, CreatedAt: time.Now().UTC(), HasPassphrase: !passphrase.Empty(), Custody: cmp.Or(asked.Custody, fleet.CustodyCoordinator)}}
	b.repositories[asked.Name] = view
	return view, generated, nil
}

func (b *backend) Repository(_ context.Context, name string) (fleet.RepositoryView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	repository, ok := b.repositories[name]
	if !ok {
		return fleet.RepositoryView{}, job.Fail(job.UnknownRepository, "there is no repository %q", name)
	}
	return repository, nil
}

func (b *backend) Repositories(context.Context) ([]fleet.RepositoryView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var repositories []fleet.RepositoryView
	for _, repository := range b.repositories {
		repositories = append(repositories, repository)
	}
	return repositories, b.fail
}

func (b *backend) SealPassphrase(_ context.Context, by fleet.Actor, name string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	repository, ok := b.repositories[name]
	if err := needs(bus.Admin, by); err != nil || !ok {
		return fleet.RepositoryView{}, cmp.Or(err, error(job.Fail(job.UnknownRepository, "there is no repository %q", name)))
	}
	b.sealed = sealed
	repository.SealedFor = slices.Sorted(maps.Keys(sealed))
	return repository, nil
}

func (b *backend) MoveRepository(_ context.Context, by fleet.Actor, name, location string) (fleet.RepositoryView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	repository, ok := b.repositories[name]
	if err := needs(bus.Admin, by); err != nil || !ok {
		return fleet.RepositoryView{}, cmp.Or(err, error(job.Fail(job.UnknownRepository, "there is no repository %q", name)))
	}
	repository.Location = location
	b.repositories[name] = repository
	return repository, nil
}

func (b *backend) RemoveRepository(_ context.Context, _ fleet.Actor, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.repositories[name]; !ok {
		return job.Fail(job.UnknownRepository, "there is no repository %q", name)
	}
	delete(b.repositories, name)
	return nil
}

// put stores a host and a repository, so that jobs can be submitted.
func (b *backend) put(host, repository string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts[host] = fleet.HostView{Host: fleet.Host{Name: host, Mode: fleet.ModeAgent}}
	b.repositories[repository] = fleet.RepositoryView{Repository: fleet.Repository{
		Custody: fleet.CustodyCoordinator, Repository: job.Repository{Name: repository, Location: "/srv/borg/" + repository, Encryption: job.RepokeyBlake2},
	}}
}
