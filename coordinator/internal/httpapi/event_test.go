package httpapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// message is one server-sent event as it came.
type message struct{ ID, Event, Data string }

// eventStream reads an open stream.
type eventStream struct {
	response *http.Response
	lines    chan string // closed at the end
}

func openStream(t *testing.T, url string) *eventStream {
	t.Helper()
	response, err := get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %s", response.Status, body)
	}
	s := &eventStream{response: response, lines: make(chan string, 1024)}
	go func() {
		defer close(s.lines)
		scanner := bufio.NewScanner(response.Body)
		scanner.Buffer(nil, 16<<20)
		for scanner.Scan() {
			s.lines <- scanner.Text()
		}
	}()
	return s
}

func (s *eventStream) line(t *testing.T) (string, bool) {
	t.Helper()
	select {
	case line, ok := <-s.lines:
		return line, ok
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
		return "", false
	}
}

// next returns the next event; comments are passed over.
func (s *eventStream) next(t *testing.T) message {
	t.Helper()
	var m message
	for {
		line, ok := s.line(t)
		if !ok {
			t.Fatal("the stream ended")
		}
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "id":
			m.ID = value
		case name == "event":
			m.Event = value
		case name == "data":
			m.Data = value
		case line == "" && m.Event != "":
			return m
		}
	}
}

func (s *eventStream) ended(t *testing.T) {
	t.Helper()
	for {
		if _, ok := s.line(t); !ok {
			return
		}
	}
}

func submitBackup(t *testing.T, s *served) job.Job {
	t.Helper()
	s.put("web1", "main")
	return decode[job.Job](t, s.do(request("POST", "/api/v1/jobs", backupBody)).Body.Bytes())
}

func TestStreamBeginsWithASnapshotAndTellsEveryType(t *testing.T) {
	s := serve(t, nil)
	j := submitBackup(t, s)
	stream := openStream(t, s.url+"/api/v1/events")
	first := stream.next(t)
	snapshot := decode[httpapi.EventSnapshot](t, []byte(first.Data))
	if first.Event != "snapshot" || first.ID != "1" || snapshot.Job != nil || len(snapshot.Status.Queued) != 1 {
		t.Fatalf("first event %+v", first)
	}
	j.State = job.Running
	percent := 42.5
	s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &j, Host: "web1", Repository: "main"})
	s.feed.Publish(feed.Update{Type: feed.JobProgress, Job: &job.Job{ID: j.ID}, Progress: &job.Progress{Phase: "create", NFiles: 7, Percent: &percent}, Host: "web1", Repository: "main"})
	s.feed.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: j.ID, Host: "web1", Attempt: 1, Seq: 2, Type: job.EventStarted, PID: 99}})
	s.feed.Publish(feed.Update{Type: feed.HostChanged, Host: "web1"})
	s.feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: "main"})
	s.feed.Publish(feed.Update{Type: feed.Missed})

	var names, ids []string
	data := map[string]string{}
	for range 7 {
		m := stream.next(t)
		names, ids, data[m.Event] = append(names, m.Event), append(ids, m.ID), m.Data
	}
	if diff := cmp.Diff([]string{"job", "progress", "event", "host", "repository", "missed", "snapshot"}, names); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"2", "3", "4", "5", "6", "7", "8"}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if got := decode[job.Job](t, []byte(data["job"])); got.State != job.Running || got.ID != j.ID || got.Attempts == nil {
		t.Errorf("job %s", data["job"])
	}
	if got := decode[httpapi.JobProgress](t, []byte(data["progress"])); got.Job != j.ID || got.Host != "web1" || got.Repository != "main" || got.Progress.NFiles != 7 || *got.Progress.Percent != 42.5 {
		t.Errorf("progress %s", data["progress"])
	}
	if got := decode[job.Event](t, []byte(data["event"])); got.PID != 99 || got.Type != job.EventStarted {
		t.Errorf("event %s", data["event"])
	}
	if data["host"] != `{"host":"web1"}` || data["repository"] != `{"repository":"main"}` || data["missed"] != `{}` {
		t.Errorf("host %s, repository %s, missed %s", data["host"], data["repository"], data["missed"])
	}
}

func TestEventsFitTheirSchemas(t *testing.T) {
	s := serve(t, nil)
	j := submitBackup(t, s)
	document := readDocument(t, s)
	stream := openStream(t, s.url+"/api/v1/events")
	s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &j, Host: "web1"})
	s.feed.Publish(feed.Update{Type: feed.JobProgress, Job: &j, Progress: &job.Progress{}, Host: "web1"})
	s.feed.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: j.ID, Type: job.EventLog, Lines: []job.LogLine{{Level: job.LevelInfo}}}})
	s.feed.Publish(feed.Update{Type: feed.HostChanged, Host: "web1"})
	s.feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: "main"})
	schemas := map[any]any{}
	items := at(document, "paths", "/events", "get", "responses", "200", "content", "text/event-stream", "schema", "items", "oneOf")
	for _, choice := range asList(items) {
		schemas[at(choice, "properties", "event", "const")] = at(choice, "properties", "data")
	}
	for range 6 {
		m := stream.next(t)
		for _, fault := range conforms(document, schemas[m.Event], decode[any](t, []byte(m.Data)), "") {
			t.Errorf("%s%s", m.Event, fault)
		}
	}
}

func TestStreamFilters(t *testing.T) {
	s := serve(t, nil)
	mine := submitBackup(t, s)
	s.put("web2", "other")
	other := mine
	other.ID, other.Host, other.Repository = job.NewID(time.Now().Add(time.Hour)), "web2", "other"
	done := other
	done.ID, done.Host, done.For, done.Repository = job.NewID(time.Now().Add(2*time.Hour)), fleet.LocalHost, "web1", "kept"
	s.jobs = append(s.jobs, other, done)
	byJob := openStream(t, s.url+"/api/v1/events?job="+string(mine.ID))
	byHost := openStream(t, s.url+"/api/v1/events?host=web1")
	if got := decode[httpapi.EventSnapshot](t, []byte(byJob.next(t).Data)); got.Status != nil || got.Job == nil || got.Job.ID != mine.ID {
		t.Errorf("snapshot of a job: %+v", got)
	}
	if got := decode[httpapi.EventSnapshot](t, []byte(byHost.next(t).Data)); len(got.Status.Hosts) != 1 || len(got.Status.Queued) != 2 || got.Status.Hosts[0].Name != "web1" {
		t.Errorf("snapshot of a host: %+v", got.Status)
	}
	for _, j := range []job.Job{other, mine} {
		s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &j, Host: j.Host})
		s.feed.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: j.ID, Host: j.Host, Type: job.EventQueued}})
		s.feed.Publish(feed.Update{Type: feed.HostChanged, Host: j.Host})
		s.feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: j.Repository})
	}
	s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &done, Host: done.Host})
	s.feed.Publish(feed.Update{Type: feed.Missed})
	collect := func(stream *eventStream) (got []string) {
		for {
			m := stream.next(t)
			if m.Event == "missed" {
				return got
			}
			if strings.Contains(m.Data, "web2") || strings.Contains(m.Data, string(other.ID)) {
				t.Errorf("%s of the other: %s", m.Event, m.Data)
			}
			got = append(got, m.Event)
		}
	}
	if diff := cmp.Diff([]string{"job", "event"}, collect(byJob)); diff != "" {
		t.Errorf("of the job (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"job", "event", "host", "job"}, collect(byHost)); diff != "" {
		t.Errorf("of the host (-want +got):\n%s", diff)
	}
}

func TestSilentStreamCarriesComments(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.Keepalive = 5 * time.Millisecond })
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	for comments := 0; comments < 3; {
		line, ok := stream.line(t)
		if !ok {
			t.Fatal("the stream ended")
		}
		if strings.HasPrefix(line, ":") {
			comments++
		}
	}
}

// TestReaderWhoDoesNotReadIsCutOff fills the connection of a reader that never
// reads; the publisher must not notice, and the watcher must go.
func TestReaderWhoDoesNotReadIsCutOff(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.WriteTimeout = 100 * time.Millisecond })
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close() // nothing was read
	if err := connection.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprint(connection, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+adminToken+"\r\n\r\n")
	patience.Until(t, "the watcher is there", func() bool { return s.feed.Watchers() == 1 })
	lines := make([]job.LogLine, 200)
	for i := range lines {
		lines[i].Text = strings.Repeat("x", 1000)
	}
	patience.Until(t, "the watcher is gone", func() bool {
		s.feed.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Type: job.EventLog, Lines: lines}})
		return s.feed.Watchers() == 0
	})
}

func TestReaderWhoLeavesIsForgotten(t *testing.T) {
	s := serve(t, nil)
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	_ = stream.response.Body.Close() // the reader leaves
	patience.Until(t, "the watcher is gone", func() bool { return s.feed.Watchers() == 0 })
}

func TestStreamsAreLimited(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.MaxStreams = 1 })
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	checkProblem(t, s.do(request("GET", "/api/v1/events", "")), http.StatusServiceUnavailable, job.Unavailable)
	_ = stream.response.Body.Close() // makes room
	patience.Until(t, "there is room again", func() bool {
		response, err := get(s.url + "/api/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close() // only its status matters
		return response.StatusCode == http.StatusOK
	})
}

func TestRefusedStreamLeavesNoWatcher(t *testing.T) {
	s := serve(t, nil)
	s.do(request("GET", "/api/v1/events?job=01JD9X7Q2M4T6W8Y0ABCDEFGHJ", ""))
	if n := s.feed.Watchers(); n != 0 {
		t.Errorf("%d watchers", n)
	}
}

func TestNothingIsLostBetweenSnapshotAndStream(t *testing.T) {
	s := serve(t, nil)
	j := submitBackup(t, s)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // attempts only grow, while readers come
		defer close(stopped)
		for attempt := 1; ; attempt++ {
			s.mu.Lock()
			s.jobs[0].Attempt = attempt
			changed := s.jobs[0]
			s.mu.Unlock()
			s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &changed, Host: "web1"})
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 5 {
		stream := openStream(t, s.url+"/api/v1/events?job="+string(j.ID))
		begin := decode[httpapi.EventSnapshot](t, []byte(stream.next(t).Data)).Job.Attempt
		last := begin
		for range 20 {
			last = decode[job.Job](t, []byte(stream.next(t).Data)).Attempt
		}
		if last < begin {
			t.Errorf("began at %d, came to %d", begin, last)
		}
		_ = stream.response.Body.Close()
	}
	close(stop)
	<-stopped
}

func TestEventDataIsOneLine(t *testing.T) {
	s := serve(t, nil)
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	text := "first\nsecond\r\n\u2028 <b>&"
	s.feed.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: text}}}})
	var event job.Event
	if err := json.Unmarshal([]byte(stream.next(t).Data), &event); err != nil || event.Lines[0].Text != text {
		t.Errorf("event %+v, %v", event, err)
	}
}
