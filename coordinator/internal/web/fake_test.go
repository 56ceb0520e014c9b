package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/web"
	"github.com/borgfleet/borgfleet/shared/job"
)

// world is a coordinator made of plain data. It answers as the real one does:
// with *job.Failure for what is not there.
type world struct {
	mu           sync.Mutex
	now          time.Time
	status       fleet.Status
	hosts        []fleet.HostView
	repositories []fleet.RepositoryView
	jobs         []job.Job // newest first
	logs         map[job.ID]fleet.JobLog
	submitted    []job.Request
	refuse       error // what every action answers, when set
	broken       error // what every read answers, when set
	feed         *feed.Feed
	people
	shelf
	harbour
	planning
}

func (w *world) Status(context.Context) (fleet.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	s.At, s.Hosts, s.HostsTotal = w.now, w.hosts, len(w.hosts)
	s.Jobs = map[job.State]int{}
	for _, h := range w.hosts {
		if h.Online {
			s.HostsOnline++
		}
	}
	for _, j := range w.jobs {
		s.Jobs[j.State]++
		switch {
		case j.State == job.Queued:
			s.Queued = append(s.Queued, j)
		case j.State.Terminal() && len(s.Recent) < 10:
			s.Recent = append(s.Recent, j)
		case !j.State.Terminal():
			s.Running = append(s.Running, j)
		}
	}
	return s, w.broken
}

func (w *world) Job(_ context.Context, id job.ID) (job.Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.find(id)
}

func (w *world) find(id job.ID) (job.Job, error) {
	if w.broken != nil {
		return job.Job{}, w.broken
	}
	for _, j := range w.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return job.Job{}, job.Fail(job.UnknownJob, "there is no job %s", id).WithHint("see `borgfleet job list`")
}

func (w *world) Jobs(_ context.Context, f job.Filter) (job.Page, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	page := job.Page{}
	limit := f.Limit
	if limit == 0 {
		limit = job.DefaultPage
	}
	for _, j := range w.jobs {
		if (f.Host != "" && f.Host != j.Host) || (f.Repository != "" && f.Repository != j.Repository) ||
			(f.State != "" && f.State != j.State) || (f.Kind != "" && f.Kind != j.Kind) ||
			j.SubmittedAt.Before(f.Since) || (f.Cursor != "" && string(j.ID) >= f.Cursor) {
			continue
		}
		if len(page.Jobs) == limit {
			page.Cursor = string(page.Jobs[limit-1].ID)
			break
		}
		page.Jobs = append(page.Jobs, j)
	}
	return page, w.broken
}

func (w *world) Log(_ context.Context, id job.ID, after int) (fleet.JobLog, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	log := w.logs[id]
	log.Next = len(log.Lines)
	log.Lines = log.Lines[min(after, len(log.Lines)):]
	return log, w.broken
}

func (w *world) Submit(_ context.Context, by fleet.Actor, r job.Request) (job.Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return job.Job{}, w.refuse
	}
	spec, err := job.ParseSpec(r.Kind, r.Spec)
	if err != nil {
		return job.Job{}, err
	}
	w.submitted = append(w.submitted, r)
	j := job.Job{ID: id(900 + len(w.submitted)), Kind: r.Kind, Host: r.Host, Repository: r.Repository, State: job.Queued, SubmittedBy: by.Name, SubmittedAt: w.now, MaxAttempts: 3, Spec: spec}
	w.jobs = slices.Insert(w.jobs, 0, j)
	return j, nil
}

func (w *world) Cancel(_ context.Context, _ fleet.Actor, id job.ID) (job.Job, error) {
	return w.act(id, func(j *job.Job) { j.CancelRequested = true })
}

func (w *world) Retry(_ context.Context, by fleet.Actor, old job.ID) (job.Job, error) {
	return w.act(old, func(j *job.Job) {
		*j = job.Job{ID: id(950), Kind: j.Kind, Host: j.Host, Repository: j.Repository, State: job.Queued, SubmittedBy: by.Name, SubmittedAt: w.now, Spec: j.Spec}
	})
}

func (w *world) act(id job.ID, change func(*job.Job)) (job.Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return job.Job{}, w.refuse
	}
	j, err := w.find(id)
	change(&j)
	return j, err
}

func (w *world) Host(_ context.Context, name string) (fleet.HostView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.Name == name {
			return h, w.broken
		}
	}
	return fleet.HostView{}, job.Fail(job.UnknownHost, "there is no host %q", name).WithHint("see `borgfleet host list`")
}

func (w *world) Hosts(context.Context) ([]fleet.HostView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts, w.broken
}

func (w *world) Repository(_ context.Context, name string) (fleet.RepositoryView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.repositories {
		if r.Name == name {
			return r, w.broken
		}
	}
	return fleet.RepositoryView{}, job.Fail(job.UnknownRepository, "there is no repository %q", name)
}

func (w *world) Repositories(context.Context) ([]fleet.RepositoryView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.repositories, w.broken
}

// change changes the world and tells the watchers.
func (w *world) change(update feed.Update, change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	w.feed.Publish(update)
}

func (w *world) handler(t testing.TB) http.Handler {
	t.Helper()
	options := w.options()
	options.Now, options.Version, options.DataDir, options.OIDCName = func() time.Time { return w.now }, "1.0.0", "/srv/borgfleet", w.oidc
	handler, err := web.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return w.authenticated(handler)
}

// options are those that are required.
func (w *world) options() web.Options {
	options := web.Options{
		Status: w, Jobs: w, Actions: w, Hosts: w, Repositories: w, Archives: w, Catalog: w, Feed: w.feed, Logger: hclog.NewNullLogger(),
		Enroller: w, Remover: w, Sessions: w, Passwords: w, Users: w, Tokens: w, Credentials: w, Audit: w,
	}
	if !w.absent {
		options.SSH, options.Connections, options.Depot, options.Keeper = w, w, w, w
	}
	if !w.unplanned {
		options.Plans, options.Alerts, options.Notify = w, w, w
	}
	return options
}

// get returns the page at an address.
func (w *world) get(t testing.TB, address string) *httptest.ResponseRecorder {
	t.Helper()
	recorder := httptest.NewRecorder()
	w.handler(t).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "http://backup.example.net:8440"+address, nil))
	return recorder
}

// id makes the n-th job id; later ones are greater.
func id(n int) job.ID {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	text := ""
	for ; n > 0; n /= 32 {
		text = digits[n%32:n%32+1] + text
	}
	return job.ID("01JD9X7Q2M4T" + strings.Repeat("0", 14-len(text)) + text)
}

func pointer[T any](v T) *T { return &v }
