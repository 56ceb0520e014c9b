package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// eventSnapshot names the first event of a stream, and the one after each gap.
// The other names are the feed's.
const eventSnapshot = "snapshot"

// EventSnapshot lets a reader catch up.
type EventSnapshot struct {
	Status *fleet.Status `json:"status"`
	Job    *job.Job      `json:"job"`
}

// JobProgress is the data of a progress event.
type JobProgress struct {
	Job        job.ID       `json:"job"`
	Host       string       `json:"host"`
	Repository string       `json:"repository"`
	Progress   job.Progress `json:"progress"`
}

// HostRef is the data of a host event.
type HostRef struct {
	Host string `json:"host"`
}

// RepositoryRef is the data of a repository event.
type RepositoryRef struct {
	Repository string `json:"repository"`
}

// PlanRef is the data of a plan event.
type PlanRef struct {
	Plan string `json:"plan"`
}

type eventsInput struct {
	Job  string `query:"job" pattern:"^[0-7][0-9A-HJKMNP-TV-Z]{25}$" patternDescription:"a job id of 26 characters" doc:"only what concerns this job"`
	Host string `query:"host" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" doc:"only what concerns this host, and what the coordinator does for it"`
}

const eventsDescription = `Server-sent events. The first is a snapshot, so that a reader need not ask
anything else; what follows are changes. An event of a job carries the whole
job, and the newest one counts. Progress is live only. "missed" means that the
reader was too slow and updates were left out: a snapshot follows. Host,
repository and plan events say what to read again; that of an alert carries it. A silent stream carries a comment
every 15 seconds; a reader that does not read is cut off. After a reconnection
the stream begins with a snapshot again: a log is then read on with
/jobs/{id}/log?after=. The id of an event counts within its stream.`

func (a *API) registerEvents() {
	op := operation{
		id: "watch-events", method: http.MethodGet, path: "/events", tag: tagEvents, status: http.StatusOK,
		summary: "Follow what happens", description: eventsDescription,
		failures: []job.Failure{unknownJob(), unknownHost()},
	}.huma(a)
	op.Responses["200"].Content = map[string]*huma.MediaType{"text/event-stream": {
		Schema:  eventSchema(a.registry()),
		Example: "id: 2\nevent: host\ndata: {\"host\":\"web1\"}\n\n",
	}}
	huma.Register(a.huma, op, a.watchEvents)
}

// watchEvents opens a stream. The watcher starts before the snapshot is read,
// so that no change falls in between.
func (a *API) watchEvents(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, a.problem(ctx, job.Fail(job.Unavailable, "there are %d event streams already", cap(a.streams)).
			WithHint("close some, and try again"))
	}
	s := &stream{api: a, job: job.ID(in.Job), host: in.Host, watcher: a.options.Feed.Watch()}
	first, err := s.snapshot(ctx)
	if err != nil {
		s.close()
		return nil, a.problem(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer s.close()
		r, w := humago.Unwrap(hctx)
		s.open(w)
		if err := s.run(r.Context(), first); err != nil {
			a.logger.Debug("event stream ended", "err", err, "remote", r.RemoteAddr)
		}
	}}, nil
}

// stream is one reader of events.
type stream struct {
	api     *API
	job     job.ID // "": all
	host    string // "": all
	watcher *feed.Watcher
	control *http.ResponseController
	out     *bufio.Writer
	sent    int
}

func (s *stream) close() {
	s.watcher.Close()
	<-s.api.streams
}

func (s *stream) open(w http.ResponseWriter) {
	s.control = http.NewResponseController(w)
	s.out = bufio.NewWriterSize(deadlineWriter{w, s.control, s.api.options.WriteTimeout}, 32<<10)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
}

// deadlineWriter bounds each write, so that a reader who does not read ends
// the stream instead of holding it for ever.
type deadlineWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

// Write implements io.Writer.
func (w deadlineWriter) Write(p []byte) (int, error) {
	if err := w.control.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, fmt.Errorf("set deadline: %w", err)
	}
	return w.ResponseWriter.Write(p)
}

// run sends events until ctx ends or the reader is gone.
func (s *stream) run(ctx context.Context, first EventSnapshot) error {
	_, _ = s.out.WriteString("retry: 1000\n\n") // an error stays until the flush
	if err := s.send(eventSnapshot, first); err != nil {
		return err
	}
	for {
		if err := s.flush(); err != nil {
			return err
		}
		wait, cancel := context.WithTimeout(ctx, s.api.options.Keepalive)
		batch, err := s.watcher.Next(wait)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			_, _ = s.out.WriteString(": nothing new\n\n") // an error stays until the flush
			continue
		}
		for _, update := range batch {
			if err := s.update(ctx, update); err != nil {
				return err
			}
		}
	}
}

func (s *stream) flush() error {
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("flush events: %w", err)
	}
	return nil
}

// update sends what an update tells, if this reader wants it.
func (s *stream) update(ctx context.Context, u feed.Update) error {
	if u.Type == feed.Missed {
		if err := s.send(string(feed.Missed), struct{}{}); err != nil {
			return err
		}
		again, err := s.snapshot(ctx)
		if err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		return s.send(eventSnapshot, again)
	}
	if !s.wants(u) {
		return nil
	}
	switch u.Type {
	case feed.JobChanged:
		return s.send(string(u.Type), completeJob(*u.Job))
	case feed.JobProgress:
		return s.send(string(u.Type), JobProgress{Job: u.Job.ID, Host: u.Host, Repository: u.Repository, Progress: *u.Progress})
	case feed.JobEvent:
		return s.send(string(u.Type), u.Event)
	case feed.HostChanged:
		return s.send(string(u.Type), HostRef{Host: u.Host})
	case feed.RepositoryChanged:
		return s.send(string(u.Type), RepositoryRef{Repository: u.Repository})
	case feed.PlanChanged:
		return s.send(string(u.Type), PlanRef{Plan: u.Plan})
	case feed.AlertChanged:
		return s.send(string(u.Type), completeAlert(*u.Alert))
	default:
		return nil
	}
}

func (s *stream) wants(u feed.Update) bool {
	var id job.ID
	host := u.Host
	switch {
	case u.Event != nil:
		id, host = u.Event.Job, u.Event.Host
	case u.Alert != nil:
		host = u.Alert.Host
	case u.Job != nil:
		id = u.Job.ID
		if host == "" {
			host = u.Job.Host
		}
	}
	forHost := u.Job != nil && u.Job.For == s.host // done for it by the coordinator
	return (s.job == "" || s.job == id) && (s.host == "" || s.host == host || forHost)
}

func (s *stream) send(name string, data any) error {
	var encoded bytes.Buffer
	if err := encodeJSON(&encoded, data); err != nil {
		return fmt.Errorf("encode %s event: %w", name, err)
	}
	s.sent++
	_, err := fmt.Fprintf(s.out, "id: %d\nevent: %s\ndata: %s\n\n", s.sent, name, bytes.TrimSuffix(encoded.Bytes(), []byte("\n")))
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// snapshot reads what this reader needs to begin with.
func (s *stream) snapshot(ctx context.Context) (EventSnapshot, error) {
	if s.job != "" {
		found, err := s.api.options.Jobs.Job(ctx, s.job)
		if err != nil {
			return EventSnapshot{}, err
		}
		found = completeJob(found)
		return EventSnapshot{Job: &found}, nil
	}
	if s.host != "" {
		if _, err := s.api.options.Hosts.Host(ctx, s.host); err != nil {
			return EventSnapshot{}, err
		}
	}
	status, err := s.api.options.Statuses.Status(ctx)
	if err != nil {
		return EventSnapshot{}, err
	}
	if s.host != "" {
		status = ofHost(status, s.host)
	}
	status = completeStatus(status)
	return EventSnapshot{Status: &status}, nil
}
