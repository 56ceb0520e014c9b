package busapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/busapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const patience = time.Minute

// coordinator is a job service and an inventory in memory.
type coordinator struct {
	mu        sync.Mutex
	jobs      []job.Job // newest first
	hosts     []fleet.HostView
	submitted []string      // who submitted what
	by        fleet.Actor   // who submitted last
	hold      chan struct{} // when set, Job waits for it to be closed
	broken    error         // when set, Status fails with it
	planner   planner
}

func (c *coordinator) Submit(_ context.Context, by fleet.Actor, r job.Request) (job.Job, error) {
	spec, err := job.ParseSpec(r.Kind, r.Spec)
	if err != nil {
		return job.Job{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.submitted = append(c.submitted, by.Name+" "+string(r.Kind)+" "+r.Host)
	c.by = by
	j := job.Job{ID: job.NewID(time.Now()), Kind: r.Kind, Host: r.Host, State: job.Queued, Spec: spec}
	c.jobs = append([]job.Job{j}, c.jobs...)
	return j, nil
}

func (c *coordinator) Job(_ context.Context, id job.ID) (job.Job, error) {
	if c.hold != nil {
		<-c.hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return job.Job{}, job.Fail(job.UnknownJob, "there is no job %s", id).WithHint("see borgfleet job list")
}

func (c *coordinator) Jobs(_ context.Context, f job.Filter) (job.Page, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	page := job.Page{Jobs: []job.Job{}}
	for _, j := range c.jobs {
		if f.Cursor != "" && j.ID >= job.ID(f.Cursor) {
			continue
		}
		if len(page.Jobs) == f.Limit {
			page.Cursor = string(page.Jobs[f.Limit-1].ID)
			break
		}
		page.Jobs = append(page.Jobs, j)
	}
	return page, nil
}

func (c *coordinator) Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	return c.note(ctx, by, "cancel", id)
}

func (c *coordinator) Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	return c.note(ctx, by, "retry", id)
}

func (c *coordinator) note(ctx context.Context, by fleet.Actor, what string, id job.ID) (job.Job, error) {
	c.mu.Lock()
	c.submitted = append(c.submitted, by.Name+" "+what)
	c.mu.Unlock()
	return c.Job(ctx, id)
}

func (c *coordinator) Log(_ context.Context, _ job.ID, after int) (fleet.JobLog, error) {
	lines := []fleet.LogEntry{{Attempt: 1, Seq: 3, LogLine: job.LogLine{Text: "A /etc/passwd"}}}
	return fleet.JobLog{Lines: lines, Next: after + 1, Complete: true}, nil
}

func (c *coordinator) Status(context.Context) (fleet.Status, error) {
	return fleet.Status{Summary: "All is well", HostsTotal: len(c.hosts)}, c.broken
}

func (c *coordinator) Hosts(context.Context) ([]fleet.HostView, error) { return c.hosts, nil }

func (c *coordinator) Host(_ context.Context, name string) (fleet.HostView, error) {
	for _, h := range c.hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return fleet.HostView{}, job.Fail(job.UnknownHost, "there is no host %q", name)
}

func (c *coordinator) Repositories(context.Context) ([]fleet.RepositoryView, error) {
	return []fleet.RepositoryView{{Repository: fleet.Repository{Repository: job.Repository{Name: "main"}}}}, nil
}

func (c *coordinator) Repository(_ context.Context, name string) (fleet.RepositoryView, error) {
	if name != "main" {
		return fleet.RepositoryView{}, job.Fail(job.UnknownRepository, "there is no repository %q", name)
	}
	return fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: name}}}, nil
}

func (c *coordinator) Archives(_ context.Context, f fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	if f.Repository != "main" {
		return fleet.ArchivePage{}, job.Fail(job.UnknownRepository, "there is no repository %q", f.Repository)
	}
	archives := []fleet.Archive{{Archive: job.Archive{Name: "a2"}, Host: f.Host}, {Archive: job.Archive{Name: "a1"}}}
	return fleet.ArchivePage{Archives: archives[:min(f.Limit, len(archives))], Total: 2}, nil
}

// Files has entries whose paths are as long as paths can be.
func (c *coordinator) Files(_ context.Context, q fleet.FilesQuery) (fleet.FilePage, error) {
	if q.Archive != "a1" {
		return fleet.FilePage{}, fleet.NotListed(q.Repository, q.Archive)
	}
	page := fleet.FilePage{Archive: q.Archive, Path: q.Path, Cursor: "more"}
	for range q.Limit {
		page.Files = append(page.Files, fleet.File{Path: strings.Repeat("x", 4000)})
	}
	return page, nil
}

func (c *coordinator) Find(_ context.Context, q fleet.FindQuery) (fleet.MatchPage, error) {
	return fleet.MatchPage{Searched: q.Limit, Matches: []fleet.Match{{Archive: "a1", File: fleet.File{Name: q.Name}}}}, nil
}

func (c *coordinator) History(_ context.Context, repository, path string) (fleet.PathHistory, error) {
	return fleet.PathHistory{Repository: repository, Path: path, NotListed: 7}, nil
}

func (c *coordinator) ListedAt(string) map[string]time.Time {
	return map[string]time.Time{"a1": time.Unix(1, 0).UTC()}
}

// serve runs the service over a real bus and returns an operator's connection.
func serve(t *testing.T, c *coordinator) (operator *nats.Conn, changes *feed.Feed) {
	t.Helper()
	operator, changes, _ = serveOn(t, c)
	return operator, changes
}

// serveOn also returns the bus.
func serveOn(t *testing.T, c *coordinator) (operator *nats.Conn, changes *feed.Feed, b *broker.Broker) {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	changes = feed.New()
	service := busapi.New(busapi.Options{
		Connection: b.API(), Identities: b, Jobs: c, Overview: c, Inventory: c, Archives: c, Catalog: c, Plans: &c.planner, Feed: changes, Logger: hclog.NewNullLogger(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("service ended: %v", err)
		}
	})
	operator = connect(t, b, "alice", bus.Operator)
	deadline := time.Now().Add(patience)
	for {
		_, err := operator.Request(bus.RepositoriesList, nil, patience)
		if err == nil && changes.Watchers() == 1 {
			return operator, changes, b
		}
		if err != nil && !errors.Is(err, nats.ErrNoResponders) || time.Now().After(deadline) {
			t.Fatalf("service does not answer: %v", err)
		}
	}
}

func connect(t *testing.T, b *broker.Broker, name string, role bus.Role) *nats.Conn {
	t.Helper()
	credentials, _, err := b.MintOperator(name, role)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alice.creds")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	connection, err := nats.Connect(b.URL(), nats.UserCredentials(file)) // as the stock client does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	return connection
}

// request asks and decodes the answer, or returns the failure that it tells.
func request(t *testing.T, connection *nats.Conn, subject, body string, reply any) *job.Failure {
	t.Helper()
	answer, err := connection.Request(subject, []byte(body), patience)
	if err != nil {
		t.Fatalf("request %s: %v", subject, err)
	}
	if len(answer.Data) == 0 {
		t.Fatalf("empty answer to %s", subject)
	}
	if code := answer.Header.Get("Nats-Service-Error-Code"); code != "" {
		var failure job.Failure
		if err := json.Unmarshal(answer.Data, &failure); err != nil {
			t.Fatalf("failure %q: %v", answer.Data, err)
		}
		text := answer.Header.Get("Nats-Service-Error")
		if text == "" || strings.ContainsAny(text, "\r\n") || code != httpStatus(failure.Code) {
			t.Errorf("headers say %q %q, the body %s", code, text, answer.Data)
		}
		return &failure
	}
	if err := json.Unmarshal(answer.Data, reply); err != nil {
		t.Fatalf("answer %q: %v", answer.Data, err)
	}
	return nil
}
