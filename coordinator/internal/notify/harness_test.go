package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/notify"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var alice = fleet.Actor{Name: "operator:alice", From: "http 192.0.2.1"}

// post is a request that the world got.
type post struct {
	url    string
	header http.Header
	body   []byte
	at     time.Time
}

func (p post) message(t *testing.T) notify.Message {
	t.Helper()
	var m notify.Message
	if err := json.Unmarshal(p.body, &m); err != nil {
		t.Fatalf("%s: %v", p.body, err)
	}
	return m
}

// web is the world of HTTP, as a test says it. The zero value takes everything.
type web struct {
	mu     sync.Mutex
	posts  []post
	answer func(r *http.Request) (int, error) // nil: 200
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	answer := w.answer
	w.mu.Unlock()
	status := http.StatusOK
	if answer != nil {
		if status, err = answer(r); err != nil {
			return nil, err
		}
	}
	if status == http.StatusOK {
		w.mu.Lock()
		w.posts = append(w.posts, post{r.URL.String(), r.Header, body, time.Now()})
		w.mu.Unlock()
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(&bytes.Reader{})}, nil
}

func (w *web) answers(f func(r *http.Request) (int, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// got returns what came since it was asked last.
func (w *web) got() []post {
	w.mu.Lock()
	defer w.mu.Unlock()
	posts := w.posts
	w.posts = nil
	return posts
}

// rig is a service that runs.
type rig struct {
	*notify.Service
	t     *testing.T
	store *store.Store
	feed  *feed.Feed
	web   *web
	log   *bytes.Buffer
	stop  func()
}

// start runs a service over the state in a directory until stop is called. Without
// a web it goes out by itself.
func start(t *testing.T, dir string, w *web) *rig {
	t.Helper()
	s, err := store.Open(filepath.Join(dir, "db"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := vault.Open(filepath.Join(dir, "secrets.key"), true)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: s, feed: feed.New(), web: w, log: &bytes.Buffer{}}
	options := notify.Options{
		Store: s, Vault: keys, Feed: r.feed, URL: "https://backup.example.net",
		Logger: hclog.New(&hclog.LoggerOptions{Output: r.log, Level: hclog.Trace, Mutex: &sync.Mutex{}}),
	}
	if w != nil {
		options.Client = &http.Client{Transport: w}
	}
	if r.Service, err = notify.New(options); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// simulate runs a test with a rig in a bubble, on a fake clock.
func simulate(t *testing.T, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), &web{})
		defer r.stop()
		test(t, r)
	})
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) target(asked fleet.NewTarget) fleet.Target {
	r.t.Helper()
	target, err := r.PutTarget(r.t.Context(), alice, asked)
	if err != nil {
		r.t.Fatal(err)
	}
	return target
}

func (r *rig) webhook(name string) fleet.Target {
	r.t.Helper()
	return r.target(fleet.NewTarget{Name: name, Kind: "webhook", URL: secret.FromString("https://" + name + ".example.net/hook-token")})
}

func (r *rig) rule(rule fleet.Rule) {
	r.t.Helper()
	if _, err := r.PutRule(r.t.Context(), alice, rule); err != nil {
		r.t.Fatal(err)
	}
}

// change stores changes to an alert, and says so.
func (r *rig) change(id string, changes ...store.Change) {
	r.t.Helper()
	if _, err := r.store.Apply(changes...); err != nil {
		r.t.Fatal(err)
	}
	alert, _, err := r.store.Alert(id)
	if err != nil {
		r.t.Fatal(err)
	}
	r.feed.Publish(feed.Update{Type: feed.AlertChanged, Alert: &alert.Alert})
}

func (r *rig) raise(c fleet.Condition) string {
	r.t.Helper()
	now := time.Now().UTC()
	if c.Kind == "" {
		c.Kind = "overdue"
	}
	if c.Severity == "" {
		c.Severity = fleet.SeverityCritical
	}
	if c.Message == "" {
		c.Message = c.Plan + c.Host + " is " + c.Kind
	}
	c.Since = now
	id := string(job.NewID(now))
	r.change(id, store.RaiseAlert(fleet.Alert{ID: id, Condition: c, RaisedAt: now}))
	return id
}

func (r *rig) resolve(id string) {
	r.t.Helper()
	r.change(id, store.ResolveAlert(id, time.Now().UTC()))
}

// told returns the subjects of what came to the web since it was asked last.
func (r *rig) told() []string {
	r.t.Helper()
	subjects := []string{}
	for _, p := range r.web.got() {
		subjects = append(subjects, p.message(r.t).Subject)
	}
	return subjects
}

func (r *rig) deliveries(target string) []fleet.Delivery {
	r.t.Helper()
	list, _, err := r.Deliveries(r.t.Context(), target, 0, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}
