package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// EventType says what an [Event] tells.
type EventType string

// Types of events. Lost is the client's own: the connection broke and is being
// made again; the next event will be a Snapshot.
const (
	EventSnapshot   EventType = "snapshot"   // Status, or Job when one job is watched: first, and after every gap
	EventJob        EventType = "job"        // Job is set: its newest stored state
	EventProgress   EventType = "progress"   // Progress is set
	EventStep       EventType = "event"      // Step is set: log lines, started, finished, …
	EventHost       EventType = "host"       // Host is set: read it again
	EventRepository EventType = "repository" // Repository is set: read it again
	EventPlan       EventType = "plan"       // Plan is set: read it, and its newest run, again
	EventAlert      EventType = "alert"      // Alert is set: raised, or resolved
	EventMissed     EventType = "missed"     // updates were left out; a Snapshot follows
	EventLost       EventType = "lost"       // Err is set
)

// Event is one message of the event stream.
type Event struct {
	Type       EventType
	Status     *fleet.Status
	Job        *job.Job
	Progress   *Progress
	Step       *job.Event
	Host       string
	Repository string
	Plan       string
	Alert      *fleet.Alert
	Err        error
}

// Progress is a running job's live progress.
type Progress struct {
	Job        job.ID       `json:"job"`
	Host       string       `json:"host"`
	Repository string       `json:"repository"`
	Progress   job.Progress `json:"progress"`
}

// EventFilter chooses events. The zero value chooses all.
type EventFilter struct {
	Job  job.ID // only this job's
	Host string // only this host's
}

// maxEventBytes bounds one event; a status of a large fleet is the largest.
const maxEventBytes = 64 << 20

// maxRetryWait is where the growing wait between connections stops.
const maxRetryWait = 10 * time.Second

// errEnough says that the reader wants no more events.
var errEnough = errors.New("enough events")

// Events follows the event stream until ctx ends, the coordinator refuses, or
// the loop is left. When the first connection cannot be made, that is an
// error; a connection lost later is told as an [EventLost] and made again. An
// error is always the last pair.
func (c *Client) Events(ctx context.Context, filter EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		connected, wait := false, c.retryWait
		for {
			err := c.follow(ctx, filter, func(event Event) error {
				connected, wait = true, c.retryWait
				if !yield(event, nil) {
					return errEnough
				}
				return nil
			})
			switch {
			case errors.Is(err, errEnough):
				return
			case ctx.Err() != nil:
				yield(Event{}, context.Cause(ctx))
				return
			case !connected || refused(err):
				yield(Event{}, err)
				return
			}
			if !yield(Event{Type: EventLost, Err: err}, nil) {
				return
			}
			if !pause(ctx, wait) {
				yield(Event{}, context.Cause(ctx))
				return
			}
			wait = min(2*wait, maxRetryWait)
		}
	}
}

// refused reports whether trying again cannot help.
func refused(err error) bool {
	failure, ok := errors.AsType[*job.Failure](err)
	return ok && failure.Code != job.Unavailable && failure.Code != job.Internal
}

// pause waits for between half of wait and wait; false means that ctx ended.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// follow reads one connection to its end.
func (c *Client) follow(ctx context.Context, filter EventFilter, handle func(Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	query := url.Values{}
	if filter.Job != "" {
		query.Set("job", string(filter.Job))
	}
	if filter.Host != "" {
		query.Set("host", filter.Host)
	}
	request, err := c.request(ctx, http.MethodGet, "/events?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream, application/problem+json")
	silence := time.AfterFunc(c.idleLimit, func() {
		cancel(&UnreachableError{URL: c.base, Err: fmt.Errorf("silent for %s", c.idleLimit)})
	})
	defer silence.Stop()
	response, err := c.send(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() // nothing to lose
	err = readEvents(response.Body, func() { silence.Reset(c.idleLimit) }, handle)
	if ctx.Err() != nil && !errors.Is(err, errEnough) {
		return context.Cause(ctx)
	}
	return err
}

// readEvents parses a stream of server-sent events. heard is called for every
// line, comments included.
func readEvents(stream io.Reader, heard func(), handle func(Event) error) error {
	scanner := bufio.NewScanner(stream)
	scanner.Buffer(make([]byte, 0, 64<<10), maxEventBytes)
	var name string
	var data []string
	for scanner.Scan() {
		heard()
		line := scanner.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "event":
			name = value
		case field == "data":
			data = append(data, value)
		case line == "" && len(data) > 0:
			event, err := decodeEvent(name, strings.Join(data, "\n"))
			if err != nil {
				return err
			}
			if event.Type != "" {
				if err := handle(event); err != nil {
					return err
				}
			}
			name, data = "", nil
		case line == "":
			name = ""
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read event stream: %w", err)
	}
	return fmt.Errorf("read event stream: %w", io.ErrUnexpectedEOF)
}

// decodeEvent returns an event without a type for a name that this version
// does not know.
func decodeEvent(name, data string) (Event, error) {
	event := Event{Type: EventType(name)}
	var target any
	switch event.Type {
	case EventSnapshot:
		target = &struct {
			Status **fleet.Status `json:"status"`
			Job    **job.Job      `json:"job"`
		}{&event.Status, &event.Job}
	case EventJob:
		target = &event.Job
	case EventProgress:
		target = &event.Progress
	case EventStep:
		target = &event.Step
	case EventHost:
		target = &struct {
			Host *string `json:"host"`
		}{&event.Host}
	case EventRepository:
		target = &struct {
			Repository *string `json:"repository"`
		}{&event.Repository}
	case EventPlan:
		target = &struct {
			Plan *string `json:"plan"`
		}{&event.Plan}
	case EventAlert:
		target = &event.Alert
	case EventMissed:
		return event, nil
	default:
		return Event{}, nil
	}
	if err := json.Unmarshal([]byte(data), target); err != nil {
		return Event{}, fmt.Errorf("decode %s event: %w", name, err)
	}
	return event, nil
}
