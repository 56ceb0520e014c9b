package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/cli"
	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	backupID = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHJ")
	listID   = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHK")
)

// coordinator answers what it was told to, and remembers what it was asked.
type coordinator struct {
	url string

	mu      sync.Mutex
	answers map[string]any            // by "METHOD /path"; a job.Failure is a refusal, an asker decides, an http.HandlerFunc does it all
	events  []client.Event            // of the event stream
	ends    map[job.ID][]client.Event // of the event stream of one job, instead
	asked   []string                  // "METHOD /path?query body"
}

// isolate keeps the test from the login and the coordinator of whoever runs it.
func isolate(t *testing.T) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	for _, name := range []string{"BORGFLEET_URL", "BORGFLEET_DATA", "BORGFLEET_TOKEN"} {
		t.Setenv(name, "") // puts it back in the end
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
}

func newCoordinator(t *testing.T) *coordinator {
	t.Helper()
	isolate(t)
	c := &coordinator{answers: map[string]any{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// raw is an answer that is not JSON.
type raw struct {
	header map[string]string
	body   string
}

func (a raw) write(w http.ResponseWriter) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	_, _ = io.WriteString(w, a.body)
}

// asker makes an answer of a request and its body.
type asker func(r *http.Request, body string) any

// ServeHTTP answers a request.
func (c *coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	path := strings.TrimPrefix(r.URL.Path, "/api/v1")
	c.mu.Lock()
	c.asked = append(c.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, strings.TrimSuffix(path+"?"+r.URL.RawQuery, "?"), body)))
	answer, known := c.answers[r.Method+" "+path]
	events, one := c.ends[job.ID(r.URL.Query().Get("job"))]
	if !one {
		events = c.events
	}
	c.mu.Unlock()
	if ask, ok := answer.(asker); ok {
		answer = ask(r, string(body))
	}
	if serve, ok := answer.(http.HandlerFunc); ok {
		serve(w, r)
		return
	}
	plain, isRaw := answer.(raw)
	switch failure, refused := answer.(*job.Failure); {
	case isRaw:
		plain.write(w)
	case path == "/events":
		stream(w, r, events)
	case refused:
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(failure.Code.HTTPStatus())
		_ = json.NewEncoder(w).Encode(map[string]any{"detail": failure.Message, "code": failure.Code, "hint": failure.Hint})
	case !known:
		http.NotFound(w, r)
	case answer == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// stream tells the events, and then nothing until the reader goes.
func stream(w http.ResponseWriter, r *http.Request, events []client.Event) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		var data any
		switch {
		case e.Type == client.EventSnapshot:
			data = map[string]any{"job": e.Job}
		case e.Job != nil:
			data = e.Job
		case e.Progress != nil:
			data = e.Progress
		case e.Step != nil:
			data = e.Step
		}
		text, _ := json.Marshal(data)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.Type, text)
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// result is what a command line said and returned.
type result struct {
	code     int
	out, err string
}

// run runs a command line against the coordinator.
func (c *coordinator) run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	if c.url != "" {
		t.Setenv("BORGFLEET_URL", c.url)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code := cli.Main(ctx, args, console.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	return result{code, out.String(), errs.String()}
}

func at(second int) time.Time { return time.Date(2026, 11, 22, 14, 0, second, 0, time.UTC) }

func pointer[T any](v T) *T { return &v }

// backup is a backup of web1 in a state.
func backup(state job.State) job.Job {
	j := job.Job{
		ID: backupID, Kind: job.Backup, Host: "web1", Repository: "main", State: state, Attempt: 1, MaxAttempts: 3,
		SubmittedBy: "operator:local", SubmittedAt: at(0), Spec: job.BackupSpec{Paths: []string{"/etc"}},
	}
	if state.Terminal() || state == job.Running {
		j.StartedAt = pointer(at(1))
	}
	if state.Terminal() {
		j.FinishedAt = pointer(at(101))
		j.Result = &job.Result{
			Archive: "web1-2026-11-22T14:00:01", NFiles: 148_210, OriginalSize: 31_400_000_000, CompressedSize: 20_000_000_000,
			DeduplicatedSize: 212_000_000, CompressionRatio: 0.637, DeduplicationRatio: 0.0068, Duration: 100,
		}
	}
	return j
}

func told(state job.State) client.Event {
	j := backup(state)
	return client.Event{Type: client.EventJob, Job: &j}
}

func logged(seq int, level job.Level, text string) client.Event {
	return client.Event{Type: client.EventStep, Step: &job.Event{
		Job: backupID, Attempt: 1, Seq: seq, Type: job.EventLog, Lines: []job.LogLine{{At: at(1), Level: level, Text: text}},
	}}
}

// full is a coordinator with a little of everything.
func full(t *testing.T) *coordinator {
	t.Helper()
	done, failed, list := backup(job.Succeeded), backup(job.Failed), backup(job.Succeeded)
	failed.Failure = job.Fail(job.DiskFull, "no space left on \x1b[31mthe disk").WithHint("make room")
	list.ID, list.Kind, list.Spec = listID, job.List, job.ListSpec{}
	list.Result = &job.Result{Duration: 0.4, Archives: []job.Archive{{Name: "web1-1", ID: "0123456789abcdef0123", Start: at(0), Hostname: "web1"}}}
	summary := &fleet.BackupSummary{Host: "web1", Repository: "main", Archive: "web1-1", FinishedAt: at(0), DeduplicatedSize: 212_000_000}
	host := fleet.HostView{
		Host:   fleet.Host{Name: "web1", Facts: &fleet.Facts{AgentVersion: "0.1.0", BorgVersion: "1.2.4", OS: "Debian", FreeBytes: 81_900_000_000, ClockSkew: -95.2}, EnrolledAt: pointer(at(0))},
		Online: true, LastBackup: summary,
	}
	repository := fleet.RepositoryView{
		Repository: fleet.Repository{Repository: job.Repository{Name: "main", Location: "/srv/borg/main", Encryption: "repokey-blake2"}},
		LastBackup: summary, LastCheck: pointer(at(0)),
	}
	c := newCoordinator(t)
	c.answers = map[string]any{
		"GET /status": fleet.Status{
			Summary: "1 of 2 backups needs attention", At: at(30), HostsOnline: 1, HostsTotal: 2, Hosts: []fleet.HostView{host, {Host: fleet.Host{Name: "db1"}}},
			Running: []job.Job{usedMount()}, Recent: []job.Job{failed, done},
			Attention: []fleet.Attention{{Kind: "failed", Host: "web1", Job: backupID, Message: "backup of web1 failed", Hint: "make room"}},
		},
		"GET /hosts": map[string]any{"hosts": []fleet.HostView{host}}, "GET /hosts/web1": host,
		"POST /hosts":        host,
		"DELETE /hosts/web1": nil,
		"GET /hosts/nope":    job.Fail(job.UnknownHost, "there is no host \"nope\"").WithHint("borgfleet host list shows all"),
		"GET /repositories":  map[string]any{"repositories": []fleet.RepositoryView{repository}}, "GET /repositories/main": repository,
		"POST /repositories":            map[string]any{"name": "main", "generated_passphrase": "correct horse"},
		"DELETE /repositories/main":     nil,
		"PATCH /repositories/main":      fleet.RepositoryView{},
		"GET /jobs":                     job.Page{Jobs: []job.Job{failed, done}, Cursor: "more"},
		"POST /jobs":                    backup(job.Queued),
		"GET /jobs/" + string(backupID): done, "GET /jobs/" + string(listID): list,
		"POST /jobs/" + string(backupID) + "/cancel": backup(job.Cancelled),
		"POST /jobs/" + string(backupID) + "/retry":  backup(job.Queued),
		"GET /jobs/" + string(backupID) + "/log": fleet.JobLog{
			Lines: []fleet.LogEntry{{Attempt: 1, Seq: 1, LogLine: job.LogLine{At: at(1), Level: job.LevelWarning, Text: "/x: \x07changed"}}}, Next: 0, Complete: true,
		},
	}
	return c
}
