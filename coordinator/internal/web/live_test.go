package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const deadline = time.Minute

// message is what page.js gets.
type message struct {
	At, Build, Title string
	Fragments        map[string]string
	Log              *struct {
		HTML           string
		After, Attempt int
	}
	Reload bool
	raw    string
}

// listen opens the live stream of a page. It ends with the test.
func (w *world) listen(t testing.TB, page string, more ...string) <-chan message {
	t.Helper()
	server := httptest.NewServer(w.handler(t))
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(server.Close)
	t.Cleanup(cancel)
	query := url.Values{"path": {page}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "backup.example.net:8440"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		t.Fatalf("status %d, %s", response.StatusCode, kind)
	}
	messages := make(chan message, 1000)
	go func() {
		defer response.Body.Close()
		defer close(messages)
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				m := message{raw: data}
				if json.Unmarshal([]byte(data), &m) == nil {
					messages <- m
				}
			}
		}
	}()
	return messages
}

// until waits for a message that the check accepts.
func until(t testing.TB, messages <-chan message, what string, accept func(message) bool) message {
	t.Helper()
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	for {
		select {
		case m, open := <-messages:
			if !open {
				t.Fatalf("the stream ended before %s", what)
			}
			if accept(m) {
				return m
			}
		case <-timer.C:
			t.Fatalf("no message with %s", what)
		}
	}
}

func anything(message) bool { return true }

// The first message is the page as it is: each live part is there, and is what
// the page itself shows.
func TestLiveBeginsWithTheWholePage(t *testing.T) {
	for _, address := range addresses() {
		w := rich()
		page := w.get(t, address).Body.String()
		if !strings.Contains(page, "data-live=") {
			continue // a page that says that there is none
		}
		first := until(t, w.listen(t, address), "the beginning", anything)
		if len(first.Fragments) == 0 || first.Title == "" || first.At != "2026-11-22T14:07:22.000Z" || !strings.Contains(page, `data-build="`+first.Build+`"`) {
			t.Errorf("%s: begins with %.200s", address, first.raw)
		}
		for element, content := range first.Fragments {
			if strings.Count(page, ` id="`+element+`"`) != 1 {
				t.Errorf("%s: no element for the fragment %q", address, element)
			}
			if !strings.Contains(page, content) {
				t.Errorf("%s: the fragment %q is not what the page shows", address, element)
			}
			checkMarkup(t, address+" "+element, content)
		}
	}
}

func TestLiveProgressMovesOneRow(t *testing.T) {
	for address, element := range map[string]string{
		"/":                              "run-" + string(runningBackup),
		"/hosts/web1":                    "run-" + string(runningBackup),
		"/jobs/" + string(runningBackup): "job-progress",
		"/repositories/web1-main":        "run-" + string(runningBackup),
	} {
		w := rich()
		messages := w.listen(t, address)
		until(t, messages, "the beginning", anything)
		moved := w.jobs[0]
		w.feed.Publish(feed.Update{Type: feed.JobProgress, Job: &moved, Host: "web1", Progress: &job.Progress{
			Phase: "create", NFiles: 200_001, OriginalSize: 40e9, Path: "home/<new>", Percent: pointer(88.5),
		}})
		m := until(t, messages, "progress", anything)
		got := m.Fragments[element]
		if len(m.Fragments) != 1 || !strings.Contains(got, "200,001") || !strings.Contains(got, `width="88.5%"`) || !strings.Contains(got, "home/&lt;new&gt;") {
			t.Errorf("%s: want only %s with the new figures, got %s", address, element, m.raw)
		}
		if strings.HasPrefix(address, "/jobs/") && m.Title != "88 % · backup of web1" {
			t.Errorf("title %q", m.Title)
		}
	}
}

func TestLiveTellsChangesOfState(t *testing.T) {
	w := rich()
	messages := w.listen(t, "/")
	until(t, messages, "the beginning", anything)
	done := w.jobs[0]
	done.State, done.Progress, done.FinishedAt = job.Succeeded, nil, pointer(noon)
	w.change(feed.Update{Type: feed.JobChanged, Job: &done, Host: "web1"}, func() {
		w.jobs[0] = done
		w.status.Summary = "All 4 backups are fine"
	})
	m := until(t, messages, "the end of the job", anything)
	for _, part := range []string{"summary", "running", "overview-hosts", "recent"} {
		if m.Fragments[part] == "" {
			t.Errorf("the part %q is not told", part)
		}
	}
	if _, told := m.Fragments["waiting"]; told || m.Title != "All 4 backups are fine" || strings.Contains(m.Fragments["running"], string(runningBackup)) {
		t.Errorf("want only what differs: %.300s", m.raw)
	}
}

// However fast changes come, a reader gets at most four messages a second, and
// the last one has the last change.
func TestLiveIsCoalesced(t *testing.T) {
	w := rich()
	messages := w.listen(t, "/")
	until(t, messages, "the beginning", anything)
	began := time.Now()
	const last = 3000
	for i := 1; i <= last; i++ {
		moved := &job.Progress{NFiles: int64(i), Percent: pointer(50.0)}
		w.change(feed.Update{Type: feed.JobProgress, Job: &job.Job{ID: runningBackup}, Progress: moved}, func() { w.jobs[0].Progress = moved })
		if i%100 == 0 {
			w.feed.Publish(feed.Update{Type: feed.HostChanged, Host: "db1"})
		}
	}
	count := 0
	until(t, messages, "the last progress", func(m message) bool {
		count++
		return strings.Contains(m.raw, ">3,000<")
	})
	if allowed := 2 + int(time.Since(began)/(250*time.Millisecond)); count > allowed {
		t.Errorf("%d messages in %v, want at most %d", count, time.Since(began), allowed)
	}
}

func TestLiveIgnoresWhatIsNotOnThePage(t *testing.T) {
	w := rich()
	messages := w.listen(t, "/jobs/"+string(goodBackup))
	until(t, messages, "the beginning", anything)
	moved := w.jobs[0]
	w.feed.Publish(feed.Update{Type: feed.JobProgress, Job: &moved, Progress: &job.Progress{NFiles: 7}})
	w.change(feed.Update{Type: feed.JobChanged, Job: &moved}, func() { w.jobs[0].Reason = "changed" })
	good, _ := w.Job(t.Context(), goodBackup)
	good.Plan = "nightly"
	w.change(feed.Update{Type: feed.JobChanged, Job: &good}, func() {
		for i := range w.jobs {
			if w.jobs[i].ID == goodBackup {
				w.jobs[i] = good
			}
		}
	})
	m := until(t, messages, "a message", anything)
	if !strings.Contains(m.Fragments["job-head"], "nightly") || len(m.Fragments) != 2 { // the head, and the commands
		t.Errorf("want only the job's own change, got %s", m.raw)
	}
}

func TestLiveLog(t *testing.T) {
	w := rich()
	say := func(attempt int, text string) {
		w.change(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: runningBackup, Type: job.EventLog}}, func() {
			log := w.logs[runningBackup]
			log.Lines = append(append([]fleet.LogEntry{}, log.Lines...), fleet.LogEntry{Attempt: attempt, LogLine: job.LogLine{At: noon, Level: job.LevelWarning, Text: text}})
			w.logs[runningBackup] = log
		})
	}
	address := "/jobs/" + string(runningBackup)
	page := w.get(t, address).Body.String()
	if !strings.Contains(page, `data-after="6" data-attempt="2"`) {
		t.Fatal("the page does not say how far its log goes")
	}
	messages := w.listen(t, address, "after", "6", "attempt", "2")
	if first := until(t, messages, "the beginning", anything); first.Log != nil {
		t.Errorf("lines that the page has are told again: %s", first.Log.HTML)
	}
	say(2, "one <more> line")
	m := until(t, messages, "a line", func(m message) bool { return m.Log != nil })
	if m.Log.After != 7 || m.Log.Attempt != 2 || !strings.Contains(m.Log.HTML, "one &lt;more&gt; line") || strings.Contains(m.Log.HTML, "begins") {
		t.Errorf("got %+v", m.Log)
	}
	say(3, "third time lucky")
	m = until(t, messages, "a line", func(m message) bool { return m.Log != nil })
	if m.Log.After != 8 || m.Log.Attempt != 3 || strings.Count(m.Log.HTML, `class="l`) != 2 || !strings.Contains(m.Log.HTML, "attempt 3</span>") {
		t.Errorf("got %+v", m.Log)
	}
	again := until(t, w.listen(t, address, "after", "7", "attempt", "2"), "the beginning", anything) // a reader who was away
	if again.Log == nil || again.Log.After != 8 || strings.Contains(again.Log.HTML, "one &lt;more&gt;") || !strings.Contains(again.Log.HTML, "lucky") {
		t.Errorf("after a break: got %s", again.raw)
	}
}

func TestLivePageThatIsGoneIsLoadedAnew(t *testing.T) {
	w := rich()
	messages := w.listen(t, "/hosts/web1")
	until(t, messages, "the beginning", anything)
	w.change(feed.Update{Type: feed.HostChanged, Host: "web1"}, func() { w.hosts = w.hosts[:3] })
	if m := until(t, messages, "a message", anything); !m.Reload {
		t.Errorf("want a reload, got %s", m.raw)
	}
	if _, open := <-messages; open {
		t.Error("the stream of a page that is gone goes on")
	}
}

func TestLiveAfterMissedUpdates(t *testing.T) {
	w := rich()
	messages := w.listen(t, "/jobs/"+string(waitingBackup))
	until(t, messages, "the beginning", anything)
	w.change(feed.Update{Type: feed.Missed}, func() {
		for i := range w.jobs {
			if w.jobs[i].ID == waitingBackup {
				w.jobs[i].Reason = "outside the window"
			}
		}
	})
	if m := until(t, messages, "a message", anything); !strings.Contains(m.Fragments["job-state"], "outside the window") {
		t.Errorf("got %s", m.raw)
	}
}

func TestLiveRefusesOtherAddresses(t *testing.T) {
	for _, page := range []string{"/nowhere", "//evil.example.net/hosts/x/y", "%zz", "/live"} {
		got := rich().get(t, "/live?path="+url.QueryEscape(page))
		if got.Code != http.StatusNotFound && got.Code != http.StatusBadRequest {
			t.Errorf("%q: status %d", page, got.Code)
		}
	}
}

// A reader who leaves leaves nothing behind.
func TestLiveEndsWithItsReader(t *testing.T) {
	w := rich()
	server := httptest.NewServer(w.handler(t))
	defer server.Close()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live?path=/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		response.Body.Close()
	}
	for end := time.Now().Add(deadline); w.feed.Watchers() > 0; {
		if time.Now().After(end) {
			t.Fatalf("%d watchers are left", w.feed.Watchers())
		}
		w.feed.Publish(feed.Update{Type: feed.HostChanged, Host: fmt.Sprint(time.Now())})
		runtime.Gosched()
	}
}
