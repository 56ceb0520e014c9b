package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// backend answers with fixed things, and remembers what it was asked.
type backend struct {
	mu         sync.Mutex
	job        job.Job
	hosts      []fleet.HostView
	log        fleet.JobLog
	request    job.Request
	filter     job.Filter
	repository fleet.NewRepository
	sealed     map[string]fleet.SealedPassphrase
	audit      fleet.AuditFilter
	calls      []string
	outside    outside
	texts      texts
	planner    planner
	watch      watchman
	feed       *feed.Feed
}

func (b *backend) called(call string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, call)
}

func (b *backend) Submit(_ context.Context, _ fleet.Actor, request job.Request) (job.Job, error) {
	b.request = request
	if request.Host != b.job.Host {
		return job.Job{}, job.Fail(job.UnknownHost, "there is no host %q", request.Host).WithHint("add it")
	}
	return b.job, nil
}

func (b *backend) Job(_ context.Context, id job.ID) (job.Job, error) {
	if id != b.job.ID {
		return job.Job{}, job.Fail(job.UnknownJob, "there is no job %s", id)
	}
	return b.job, nil
}

func (b *backend) Jobs(_ context.Context, f job.Filter) (job.Page, error) {
	b.filter = f
	return job.Page{Jobs: []job.Job{b.job}, Cursor: string(b.job.ID)}, nil
}

func (b *backend) Cancel(_ context.Context, _ fleet.Actor, id job.ID) (job.Job, error) {
	b.called("cancel " + string(id))
	return b.job, nil
}

func (b *backend) Retry(_ context.Context, _ fleet.Actor, id job.ID) (job.Job, error) {
	b.called("retry " + string(id))
	return b.job, nil
}

func (b *backend) Log(_ context.Context, _ job.ID, after int) (fleet.JobLog, error) {
	return fleet.JobLog{Lines: b.log.Lines[after:], Next: len(b.log.Lines), Complete: true}, nil
}

func (b *backend) Status(context.Context) (fleet.Status, error) {
	return fleet.Status{Summary: "All is well", Hosts: b.hosts, Running: []job.Job{b.job}}, nil
}

func (b *backend) AddHost(_ context.Context, _ fleet.Actor, name string, labels map[string]string) (fleet.HostView, error) {
	return fleet.HostView{Host: fleet.Host{Name: name, Labels: labels}}, nil
}

func (b *backend) Host(_ context.Context, name string) (fleet.HostView, error) {
	for _, host := range b.hosts {
		if host.Name == name {
			return host, nil
		}
	}
	return fleet.HostView{}, job.Fail(job.UnknownHost, "there is no host %q", name).WithHint("add it")
}

func (b *backend) Hosts(context.Context) ([]fleet.HostView, error) { return b.hosts, nil }

func (b *backend) RemoveHost(_ context.Context, _ fleet.Actor, name string) error {
	b.called("remove host " + name)
	return nil
}

func (b *backend) AddRepository(_ context.Context, _ fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error) {
	b.repository = asked
	generated := secret.Value{}
	if asked.Generate {
		generated = secret.FromString("made-for-you")
	}
	return repository(asked.Name), generated, nil
}

func repository(name string) fleet.RepositoryView {
	return fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: name, Location: "/r", Encryption: job.Repokey}}}
}

func (b *backend) Repository(_ context.Context, name string) (fleet.RepositoryView, error) {
	return repository(name), nil
}

func (b *backend) Repositories(context.Context) ([]fleet.RepositoryView, error) {
	return []fleet.RepositoryView{repository("b"), repository("a")}, nil
}

func (b *backend) RemoveRepository(_ context.Context, _ fleet.Actor, name string) error {
	b.called("remove repository " + name)
	return nil
}

func newBackend() *backend {
	started := time.Date(2026, 11, 22, 2, 0, 2, 0, time.UTC)
	percent := 42.0
	return &backend{
		feed: feed.New(),
		job: job.Job{
			ID: "01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Kind: job.Backup, Host: "web1", Repository: "main", State: job.Running, Attempt: 1,
			SubmittedAt: started, StartedAt: &started, Spec: job.BackupSpec{Paths: []string{"/etc"}, Compression: "zstd,3"},
			Progress: &job.Progress{Phase: "create", Percent: &percent}, Attempts: []job.Attempt{},
		},
		log: fleet.JobLog{Lines: []fleet.LogEntry{{Attempt: 1, Seq: 1, LogLine: job.LogLine{Text: "one"}}, {Attempt: 1, Seq: 2, LogLine: job.LogLine{Text: "two"}}}},
	}
}

// archives has another name than its method.
type archives = httpapi.Archives

func handler(t *testing.T, b *backend) http.Handler {
	t.Helper()
	logger := hclog.NewNullLogger()
	api, err := httpapi.New(httpapi.Options{
		Mux: http.NewServeMux(), Jobs: b, Logs: b, Statuses: b, Hosts: b, Repositories: b, Feed: b.feed, Logger: logger,
		Authenticator: b, Logins: b, People: b, Tokens: b, Credentials: b, Enrolment: b, Audit: b, State: b, Connections: b, Depot: b,
		Plans: &b.planner, Alerts: &b.watch, Notifications: &b.watch, Manifests: &b.texts, Operations: struct{ httpapi.Operations }{},
		Archives: struct{ archives }{}, Catalog: struct{ httpapi.Catalog }{}, Downloads: struct{ httpapi.Downloads }{}, URL: "https://backup.example.net",
		Metrics: httpapi.NewMetrics(httpapi.MetricsOptions{Snapshot: b, Feed: b.feed, Logger: logger}), Keepalive: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// connect returns a client of the real API over b.
func connect(t *testing.T, b *backend) *client.Client {
	t.Helper()
	return newClient(t, serveOver(t, b))
}

// serveOver returns the URL of the real API over b.
func serveOver(t *testing.T, b *backend) string {
	t.Helper()
	server := httptest.NewServer(handler(t, b))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

func newClient(t *testing.T, url string) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Options{
		URL: url, HTTPClient: &http.Client{Transport: transport}, RetryWait: 2 * time.Millisecond, IdleLimit: 30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestJobsTravelUnchanged(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	ctx := t.Context()
	asked := job.Request{Host: "web1", Kind: job.Backup, Repository: "main", Spec: []byte(`{"paths":["/etc"]}`), MaxAttempts: 2, Priority: -3, IdempotencyKey: "k", Plan: "p"}
	submitted, err := c.SubmitJob(ctx, asked)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.job, submitted); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(asked, b.request); diff != "" {
		t.Errorf("request (-sent +came):\n%s", diff)
	}
	for name, call := range map[string]func() (job.Job, error){
		"Job":    func() (job.Job, error) { return c.Job(ctx, b.job.ID) },
		"Cancel": func() (job.Job, error) { return c.Cancel(ctx, b.job.ID) },
		"Retry":  func() (job.Job, error) { return c.Retry(ctx, b.job.ID) },
	} {
		got, err := call()
		if diff := cmp.Diff(b.job, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	slices.Sort(b.calls)
	if diff := cmp.Diff([]string{"cancel " + string(b.job.ID), "retry " + string(b.job.ID)}, b.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestJobsFilter(t *testing.T) {
	b := newBackend()
	filter := job.Filter{
		Host: "web1", Repository: "main", Plan: "web1-daily", State: job.Failed, Kind: job.Check,
		Since: time.Date(2026, 11, 22, 2, 0, 0, 123, time.UTC), Limit: 7, Cursor: "01JD9X7Q2M4T6W8Y0ABCDEFGHJ",
	}
	page, err := connect(t, b).Jobs(t.Context(), filter)
	if err != nil || len(page.Jobs) != 1 || page.Cursor == "" {
		t.Errorf("page %+v, %v", page, err)
	}
	if diff := cmp.Diff(filter, b.filter); diff != "" {
		t.Errorf("filter (-sent +came):\n%s", diff)
	}
}

func TestLogGoesOn(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	log, err := c.Log(t.Context(), b.job.ID, 1)
	if err != nil || len(log.Lines) != 1 || log.Lines[0].Text != "two" || log.Next != 2 || !log.Complete {
		t.Errorf("log %+v, %v", log, err)
	}
}

func TestHosts(t *testing.T) {
	b := newBackend()
	for i := range job.MaxPage + 3 { // more than a page
		b.hosts = append(b.hosts, fleet.HostView{Host: fleet.Host{Name: "h" + strings.Repeat("0", 4-len(itoa(i))) + itoa(i)}})
	}
	c := connect(t, b)
	ctx := t.Context()
	hosts, err := c.Hosts(ctx)
	if diff := cmp.Diff(b.hosts, hosts, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if host, err := c.Host(ctx, "h0007"); err != nil || host.Name != "h0007" {
		t.Errorf("%+v, %v", host, err)
	}
	added, err := c.AddHost(ctx, "web2", map[string]string{"site": "fra"})
	if err != nil || added.Name != "web2" || added.Labels["site"] != "fra" {
		t.Errorf("%+v, %v", added, err)
	}
	if err := c.RemoveHost(ctx, "web2"); err != nil || !slices.Equal(b.calls, []string{"remove host web2"}) {
		t.Errorf("%v, %v", b.calls, err)
	}
	status, err := c.Status(ctx)
	if err != nil || status.Summary != "All is well" || len(status.Hosts) != len(b.hosts) || status.Running[0].ID != b.job.ID {
		t.Errorf("status %q with %d hosts, %v", status.Summary, len(status.Hosts), err)
	}
}

func itoa(n int) string {
	digits := []byte{}
	for ; n > 0 || len(digits) == 0; n /= 10 {
		digits = append([]byte{byte('0' + n%10)}, digits...)
	}
	return string(digits)
}

func TestRepositories(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	ctx := t.Context()
	asked := fleet.NewRepository{Name: "main", Location: "/r", Encryption: job.Repokey, Passphrase: secret.FromString("s3cret")}
	added, err := c.AddRepository(ctx, asked)
	if err != nil || added.Name != "main" || !added.Passphrase.Empty() {
		t.Errorf("%+v, %v", added, err)
	}
	if b.repository.Name != "main" || b.repository.Encryption != job.Repokey || !b.repository.Passphrase.Equal(asked.Passphrase) || b.repository.Generate {
		t.Errorf("came as %+v", b.repository)
	}
	added, err = c.AddRepository(ctx, fleet.NewRepository{Name: "other", Location: "/r", Generate: true})
	if err != nil || string(added.Passphrase.Reveal()) != "made-for-you" {
		t.Errorf("generated passphrase: %v", err)
	}
	all, err := c.Repositories(ctx)
	if err != nil || len(all) != 2 || all[0].Name != "a" {
		t.Errorf("%+v, %v", all, err)
	}
	if one, err := c.Repository(ctx, "a"); err != nil || one.Location != "/r" {
		t.Errorf("%+v, %v", one, err)
	}
	if err := c.RemoveRepository(ctx, "a"); err != nil || !slices.Equal(b.calls, []string{"remove repository a"}) {
		t.Errorf("%v, %v", b.calls, err)
	}
}

func TestRefusalIsTheFailureThatWasGiven(t *testing.T) {
	c := connect(t, newBackend())
	_, err := c.SubmitJob(t.Context(), job.Request{Host: "web9", Kind: job.Info, Repository: "main"})
	failure, ok := errors.AsType[*job.Failure](err)
	want := &job.Failure{Code: job.UnknownHost, Message: `there is no host "web9"`, Hint: "add it"}
	if diff := cmp.Diff(want, failure); !ok || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, err = c.SubmitJob(t.Context(), job.Request{Host: "web1", MaxAttempts: 99})
	if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.InvalidRequest || !strings.Contains(failure.Message, "body.max_attempts") {
		t.Errorf("invalid request: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	_ = listener.Close() // nobody listens there now
	c := newClient(t, url)
	_, err = c.Status(t.Context())
	unreachable, ok := errors.AsType[*client.UnreachableError](err)
	if !ok || unreachable.URL != url || !strings.Contains(err.Error(), "connection refused") || strings.Count(err.Error(), url) != 1 || unreachable.Hint() == "" {
		t.Errorf("error %v", err)
	}
	for _, err := range c.Events(t.Context(), client.EventFilter{}) {
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok {
			t.Errorf("events: %v", err)
		}
	}
}

func TestSomethingElseThere(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<h1>nginx</h1>", http.StatusBadGateway) },
		"another's error": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(500)
			_, _ = w.Write([]byte(`{"title":"x"}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer)
			defer server.Close()
			_, err := newClient(t, server.URL).Status(t.Context())
			if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.Unavailable || !strings.Contains(failure.Message, "not as a borgfleet coordinator") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestContextEndsACall(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := newClient(t, server.URL).Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestBadURL(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:8440", "ftp://host", "http://", "://"} {
		if _, err := client.New(client.Options{URL: url}); err == nil {
			t.Errorf("%q is taken for a URL", url)
		}
	}
	if c, err := client.New(client.Options{URL: "http://localhost:8440/"}); err != nil || c.URL() != "http://localhost:8440" {
		t.Errorf("URL with a slash: %v", err)
	}
}

func TestTokenIsSent(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL, Token: "bf_123"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err != nil || got != "Bearer bf_123" {
		t.Errorf("Authorization %q, %v", got, err)
	}
}
