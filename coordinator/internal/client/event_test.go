package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestEventsOfEveryType(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	var got []client.Event
	for event, err := range c.Events(t.Context(), client.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, event)
		if len(got) == 1 {
			b.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &b.job, Host: "web1", Repository: "main"})
			b.feed.Publish(feed.Update{Type: feed.JobProgress, Job: &b.job, Progress: b.job.Progress, Host: "web1", Repository: "main"})
			b.feed.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: b.job.ID, Host: "web1", Type: job.EventLog, Lines: []job.LogLine{{Text: "a\nb"}}}})
			b.feed.Publish(feed.Update{Type: feed.HostChanged, Host: "web1"})
			b.feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: "main"})
			b.feed.Publish(feed.Update{Type: feed.Missed})
		}
		if len(got) == 8 {
			break
		}
	}
	want := []client.Event{
		{Type: client.EventSnapshot},
		{Type: client.EventJob, Job: &b.job},
		{Type: client.EventProgress, Progress: &client.Progress{Job: b.job.ID, Host: "web1", Repository: "main", Progress: *b.job.Progress}},
		{Type: client.EventStep, Step: &job.Event{Job: b.job.ID, Host: "web1", Type: job.EventLog, Lines: []job.LogLine{{Text: "a\nb"}}}},
		{Type: client.EventHost, Host: "web1"},
		{Type: client.EventRepository, Repository: "main"},
		{Type: client.EventMissed},
		{Type: client.EventSnapshot},
	}
	for _, i := range []int{0, 7} {
		if got[i].Status == nil || got[i].Status.Running[0].ID != b.job.ID {
			t.Errorf("snapshot without the status: %+v", got[i])
		}
		got[i].Status = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestEventsOfOneJob(t *testing.T) {
	b := newBackend()
	for event, err := range connect(t, b).Events(t.Context(), client.EventFilter{Job: b.job.ID}) {
		if err != nil || event.Status != nil || event.Job == nil || event.Job.ID != b.job.ID {
			t.Errorf("first event %+v, %v", event, err)
		}
		break
	}
}

func TestRefusedEventsAreAnError(t *testing.T) {
	c := connect(t, newBackend())
	seen := 0
	for _, err := range c.Events(t.Context(), client.EventFilter{Host: "web9"}) {
		seen++
		if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.UnknownHost {
			t.Errorf("error %v", err)
		}
	}
	if seen != 1 {
		t.Errorf("%d rounds", seen)
	}
}

// TestEventsComeBackAfterALostConnection breaks the connection, refuses two
// more, and expects the stream to go on with a snapshot.
func TestEventsComeBackAfterALostConnection(t *testing.T) {
	b := newBackend()
	api := handler(t, b)
	var connections atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := connections.Add(1); n == 2 || n == 3 {
			panic(http.ErrAbortHandler)
		}
		api.ServeHTTP(w, r)
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	var got []client.EventType
	for event, err := range newClient(t, server.URL).Events(t.Context(), client.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, event.Type)
		if len(got) == 1 {
			server.CloseClientConnections()
		}
		if event.Type == client.EventLost && event.Err == nil {
			t.Error("lost without a reason")
		}
		if len(got) > 1 && event.Type == client.EventSnapshot {
			break
		}
	}
	want := []client.EventType{client.EventSnapshot, client.EventLost, client.EventLost, client.EventLost, client.EventSnapshot}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestJobThatIsGoneAfterALostConnectionEndsTheStream(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if connections.Add(1) == 1 {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprint(w, "event: missed\ndata: {}\n\n")
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"code":"unknown_job","detail":"gone"}`)
	}))
	defer server.Close()
	var last error
	for _, err := range newClient(t, server.URL).Events(t.Context(), client.EventFilter{}) {
		last = err
	}
	if failure, ok := errors.AsType[*job.Failure](last); !ok || failure.Code != job.UnknownJob {
		t.Errorf("last error %v", last)
	}
}

func TestSilentStreamIsLost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, ": hello\n\nevent: news\ndata: {}\n\nevent: host\ndata: {\"host\":\ndata: \"web1\"}\n\n")
		_ = http.NewResponseController(w).Flush() // the reader's deadline begins
		<-r.Context().Done()
	}))
	defer server.Close()
	c, err := client.New(client.Options{URL: server.URL, IdleLimit: 50 * time.Millisecond, RetryWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var got []client.EventType
	for event, err := range c.Events(t.Context(), client.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, event.Type)
		if event.Type == client.EventHost && event.Host != "web1" {
			t.Errorf("host %q", event.Host)
		}
		if event.Type == client.EventLost {
			if _, ok := errors.AsType[*client.UnreachableError](event.Err); !ok {
				t.Errorf("lost because of %v", event.Err)
			}
			break
		}
	}
	if diff := cmp.Diff([]client.EventType{client.EventHost, client.EventLost}, got); diff != "" {
		t.Errorf("events; one of an unknown type is passed over (-want +got):\n%s", diff)
	}
}

func TestContextEndsTheEvents(t *testing.T) {
	c := connect(t, newBackend())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range c.Events(ctx, client.EventFilter{}) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("last error %v", last)
	}
}
