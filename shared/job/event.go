package job

import (
	"encoding/json"
	"time"
)

// EventType names a step in a job's life.
type EventType string

// Event types of the contract. The host tells accepted, started, log and
// finished; the coordinator adds the others.
const (
	EventQueued    EventType = "queued"
	EventSent      EventType = "sent"
	EventAccepted  EventType = "accepted"
	EventStarted   EventType = "started"
	EventLog       EventType = "log"
	EventFinished  EventType = "finished"
	EventRetried   EventType = "retried"
	EventCancelled EventType = "cancelled"
)

// Event is one step, numbered within its attempt. (Job, Attempt, Seq) names an
// event for ever: a repeat of it changes nothing. Seq is 0 for events that the
// coordinator makes itself.
type Event struct {
	Job     ID        `json:"job"`
	Host    string    `json:"host"`
	Attempt int       `json:"attempt"`
	Seq     int       `json:"seq"` // 1, 2, … within the attempt
	Type    EventType `json:"type"`
	At      time.Time `json:"at"`

	State   State     `json:"state,omitempty"`   // the job's state after this event; finished: a terminal state
	Reason  string    `json:"reason,omitempty"`  // queued, retried
	PID     int       `json:"pid,omitempty"`     // started: borg's process
	Lines   []LogLine `json:"lines,omitempty"`   // log
	Omitted int       `json:"omitted,omitempty"` // log: lines left out before Lines
	Result  *Result   `json:"result,omitempty"`  // finished
	Failure *Failure  `json:"failure,omitempty"` // finished
}

// Level is a log line's severity, in borg's terms.
type Level string

// Levels of log lines.
const (
	LevelDebug   Level = "debug"
	LevelInfo    Level = "info"
	LevelWarning Level = "warning"
	LevelError   Level = "error"
)

// LogLine is one line of a job's log.
type LogLine struct {
	At    time.Time `json:"at"`
	Level Level     `json:"level"`
	Text  string    `json:"text"` // at most MaxLogLineBytes
}

// Bounds of a job's log as it travels. Everything stays in the job's directory
// on the host until that expires.
const (
	MaxLogLineBytes = 4 << 10
	LogHeadLines    = 400 // told as they come
	LogTailLines    = 200 // kept, and told before finished when there were more
)

// Outcome is how an attempt ended.
type Outcome struct {
	State   State // terminal
	Result  *Result
	Failure *Failure
}

// Filter chooses jobs for a list. Zero fields do not filter.
type Filter struct {
	Host       string    `json:"host,omitempty"` // runs it, or it is done for
	Repository string    `json:"repository,omitempty"`
	Plan       string    `json:"plan,omitempty"`
	State      State     `json:"state,omitempty"`
	Kind       Kind      `json:"kind,omitempty"`
	Since      time.Time `json:"since,omitzero"`   // submitted at or after
	Limit      int       `json:"limit,omitempty"`  // 1 to MaxPage; 0 means DefaultPage
	Cursor     string    `json:"cursor,omitempty"` // from the page before
}

// Page sizes of lists.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// Validate returns nil, or a *Failure about the first bad field.
func (f Filter) Validate() error {
	switch {
	case f.State != "" && !f.State.Known():
		return Invalid("state", "%q is not a job state", f.State).WithHint("one of queued, sent, running, succeeded, warning, failed, cancelled, expired")
	case f.Kind != "" && !f.Kind.Known():
		return Invalid("kind", "%q is not a job kind", f.Kind).WithHint("one of %s", kindNames(Kinds()))
	case f.Limit < 0 || f.Limit > MaxPage:
		return Invalid("limit", "%d is not between 1 and %d", f.Limit, MaxPage)
	}
	if f.Cursor != "" {
		if _, err := ParseID(f.Cursor); err != nil {
			return Invalid("cursor", "%q did not come from a list", f.Cursor)
		}
	}
	return nil
}

// Page is one page of a list, newest job first.
type Page struct {
	Jobs   []Job  `json:"jobs"`
	Cursor string `json:"cursor"` // give it back for the next page; empty on the last
}

// Request is a submission as it comes over the bus and HTTP.
type Request struct {
	Host           string          `json:"host,omitempty"`
	Kind           Kind            `json:"kind,omitempty"`
	Repository     string          `json:"repository,omitempty"`
	Spec           json.RawMessage `json:"spec,omitempty"` // decoded by Kind, see ParseSpec
	Plan           string          `json:"plan,omitempty"`
	Timeout        int             `json:"timeout,omitempty"`         // seconds that an attempt may run; 0 means the coordinator's limit
	ExpiresIn      int             `json:"expires_in,omitempty"`      // seconds in which a host must have accepted it; 0 means the coordinator's limit
	MaxAttempts    int             `json:"max_attempts,omitempty"`    // 0 means the kind's default; at most 10
	Priority       int             `json:"priority,omitempty"`        // higher goes first; -100 to 100
	IdempotencyKey string          `json:"idempotency_key,omitempty"` // the same key returns the same job
}

// Bounds of a request's times.
const (
	MaxTimeout = 30 * 24 * time.Hour
	MaxExpiry  = 365 * 24 * time.Hour
)
