package bus

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// MaxMessageBytes bounds every message of an agent.
const MaxMessageBytes = 512 << 10

// Timing of the protocol.
const (
	PingInterval    = 5 * time.Second // with PingsOut: a dead link is noticed within 15 s
	PingsOut        = 2
	DialTimeout     = 4 * time.Second         // for a TCP connection: the third try of TCP itself is after 3 s
	HelloBusy       = 10 * time.Second        // while something runs
	HelloIdle       = 30 * time.Second        // at rest; jittered by up to a fifth
	RequestTimeout  = 5 * time.Second         // no answer by then is ambiguous, not a failure
	OrderLifetime   = 2 * time.Minute         // an order older than this is not accepted
	MaxReconnectGap = 60 * time.Second        // full jitter up to here
	UrgentGap       = time.Second             // the same, with something to tell
	PresenceTimeout = 1500 * time.Millisecond // a run of an agent that has not answered by then is gone
)

// Order asks a host to run one attempt of one job. It travels inside an
// [Envelope].
type Order struct {
	Host       string          `json:"host"`
	Instance   string          `json:"instance"` // the agent's process that it is for, see Hello
	Job        job.ID          `json:"job"`
	Attempt    int             `json:"attempt"`
	IssuedAt   time.Time       `json:"issued_at"`
	ExpiresAt  time.Time       `json:"expires_at"` // not to be accepted later
	Kind       job.Kind        `json:"kind"`
	Spec       json.RawMessage `json:"spec"`
	Repository job.Repository  `json:"repository"`
	Archive    string          `json:"archive,omitempty"`    // the archive's full name, for a backup
	Baseline   *job.Baseline   `json:"baseline,omitempty"`   // null: no percentage
	Passphrase *secret.Sealed  `json:"passphrase,omitempty"` // null: the repository has none
	Timeout    int             `json:"timeout,omitempty"`    // seconds that borg may run; 0: no limit
	// For is the host whose archives the job is about; empty: Host.
	For string `json:"for,omitempty"`
	// Plan and Run are the job's, for hooks to know; empty: it has none.
	Plan string `json:"plan,omitempty"`
	Run  string `json:"run,omitempty"`
	// Depot says how the coordinator's depot is reached; nil: the repository is
	// not there, or it is a directory of the host itself.
	Depot *Depot `json:"depot,omitempty"`
}

// Depot is how borg reaches a repository in the coordinator's depot. The URL in
// the order names no machine ([DepotHost]): that is said here, so that a
// repository stays the same for borg's cache, whichever way it is reached.
type Depot struct {
	Address string `json:"address"`  // host:port of the endpoint; empty: a tunnel, which whoever runs the host knows
	HostKey string `json:"host_key"` // the endpoint's public key, in authorized_keys form
}

// DepotHost stands for the depot's endpoint in URLs, and in files of known hosts.
const DepotHost = "borgfleet-depot"

// DepotURL is the location of a repository in the depot, for hosts.
func DepotURL(repository string) string {
	return "ssh://" + repository + "@" + DepotHost + "/./" + repository
}

// OrderReply is a host's answer, given after the order, or its refusal, is in
// its journal on disk. The same order always gets the same answer.
type OrderReply struct {
	Accepted bool         `json:"accepted"`
	Stamp    Stamp        `json:"stamp"`
	Failure  *job.Failure `json:"failure,omitempty"` // why not; also told as a finished event
	// Over is the finished event, without its lists, of an attempt that ran, and
	// whose events were stored and have left the host's journal before this order
	// came: the coordinator asks for it because its database was restored from an
	// older copy.
	Over *job.Event `json:"over,omitempty"`
}

// Stamp is a moment in the life of an agent's journal. Within one journal the
// revision only grows, so "this agent does not know that attempt" can be told
// from "this agent did not know it yet".
type Stamp struct {
	Journal  string `json:"journal"`  // random id, made with the journal
	Revision uint64 `json:"revision"` // number of the journal's last change
}

// Event is a job event as an agent publishes it.
type Event struct {
	job.Event
	Stamp  Stamp   `json:"stamp"`
	Origin *Origin `json:"origin,omitempty"` // accepted, finished
}

// Origin says what an attempt is of. With it a coordinator whose database was
// restored from an older copy takes in jobs that it does not know any more.
type Origin struct {
	Kind       job.Kind        `json:"kind"`
	Repository string          `json:"repository"`
	Spec       json.RawMessage `json:"spec,omitempty"` // left out of finished when it is large
	Archive    string          `json:"archive,omitempty"`
	SentAt     time.Time       `json:"sent_at"`
}

// StreamEvent is an event as it is read from the stream. Sequence is its place
// there: it grows without bound and never repeats while the stream lives.
type StreamEvent struct {
	Sequence uint64 `json:"sequence"`
	Event
}

// Progress is live progress as an agent publishes it: never stored, may be lost.
type Progress struct {
	Job      job.ID       `json:"job"`
	Attempt  int          `json:"attempt"`
	Progress job.Progress `json:"progress"`
}

// Cancel asks a host to end an attempt. A host that does not know the attempt
// remembers the cancellation, and refuses an order that comes after it.
type Cancel struct {
	Job     job.ID `json:"job"`
	Attempt int    `json:"attempt"`
}

// CancelReply says that the cancellation is in the host's journal.
type CancelReply struct {
	Stamp Stamp `json:"stamp"`
}

// Hello tells the coordinator what a host is and which attempts it knows.
type Hello struct {
	Host         string        `json:"host"`
	Instance     string        `json:"instance"`          // random, of this run of the agent
	Refused      bool          `json:"refused,omitempty"` // this run was refused when it was last answered
	AgentVersion string        `json:"agent_version"`
	BorgVersion  string        `json:"borg_version"` // empty: no usable borg, see BorgFailure
	BorgFailure  *job.Failure  `json:"borg_failure,omitempty"`
	OS           string        `json:"os"`       // "Debian GNU/Linux 12 (bookworm)", "linux/amd64" when unknown
	SealKey      string        `json:"seal_key"` // public curve key that secrets are sealed to
	StartedAt    time.Time     `json:"started_at"`
	At           time.Time     `json:"at"` // the host's clock
	Slots        int           `json:"slots"`
	FreeBytes    uint64        `json:"free_bytes"`    // where borg keeps its cache
	JournalDepth int           `json:"journal_depth"` // events not known to be stored
	Stamp        Stamp         `json:"stamp"`
	Attempts     []HostAttempt `json:"attempts"` // open ones and tombstones
	// Away says that the host cannot be reached now, and takes no orders: whoever
	// runs its jobs from the coordinator says hello for it. No agent can say so.
	Away bool `json:"-"`
}

// HostAttempt is one attempt that a host knows.
type HostAttempt struct {
	Job      job.ID `json:"job"`
	Attempt  int    `json:"attempt"`
	LastSeq  int    `json:"last_seq"` // number of its last event
	Finished bool   `json:"finished"` // LastSeq is the finished event
}

// HelloReply settles both sides.
type HelloReply struct {
	At       time.Time `json:"at"` // the coordinator's clock
	Verdicts []Verdict `json:"verdicts"`
	// Refused says why the coordinator does not work with this run of the agent:
	// another one with the same identity is there. There are no verdicts then.
	Refused *job.Failure `json:"refused,omitempty"`
}

// CheckInstance returns an error unless text can be the name of a run of an
// agent, as [rand.Text] makes it: it becomes part of a subject.
func CheckInstance(text string) error {
	letter := func(r rune) bool { return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' }
	if text == "" || len(text) > 64 || strings.ContainsFunc(text, func(r rune) bool { return !letter(r) }) {
		return fmt.Errorf("%q names no run of an agent", text)
	}
	return nil
}

// Presence is a run of an agent's answer to the question whether it is there.
type Presence struct {
	Instance string `json:"instance"`
}

// Verdict is what the coordinator says of one attempt.
type Verdict struct {
	Job     job.ID `json:"job"`
	Attempt int    `json:"attempt"`
	Action  Action `json:"action"`
	Stored  int    `json:"stored"` // events up to this number are stored, and may be dropped
}

// Action is what a host shall do with an attempt.
type Action string

// Actions of a verdict.
const (
	Keep   Action = "keep"   // go on, and publish again what is not stored
	Stop   Action = "cancel" // end it, as Cancel does
	Forget Action = "forget" // finished and stored: the tombstone may go
)
