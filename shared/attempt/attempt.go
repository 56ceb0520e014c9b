// Package attempt is the vocabulary that the agent's packages share: what the
// agent remembers of one attempt of one job. It does nothing by itself.
package attempt

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Faults of the journal that its callers tell apart.
var (
	ErrUnknown  = errors.New("attempt is not in the journal")
	ErrFinished = errors.New("attempt is finished already")
)

// Key names one attempt of one job.
type Key struct {
	Job    job.ID
	Number int
}

// KeyOf returns the key of an order's attempt.
func KeyOf(order bus.Order) Key { return Key{Job: order.Job, Number: order.Attempt} }

// String is the attempt's name in directories and logs, "<job>.<number>".
func (k Key) String() string { return k.Job.AttemptID(k.Number) }

// Check returns an error unless the key can name an attempt.
func (k Key) Check() error {
	if _, err := job.ParseID(string(k.Job)); err != nil {
		return err
	}
	if k.Number < 1 || k.Number > 1<<30 {
		return job.Invalid("attempt", "%d is not an attempt's number", k.Number)
	}
	return nil
}

// ParseKey reads what [Key.String] wrote.
func ParseKey(text string) (Key, error) {
	id, number, _ := strings.Cut(text, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return Key{}, fmt.Errorf("%q does not name an attempt", text)
	}
	key := Key{Job: job.ID(id), Number: n}
	if err := key.Check(); err != nil {
		return Key{}, fmt.Errorf("%q does not name an attempt: %w", text, err)
	}
	return key, nil
}

// Mark is how much of an attempt has been told in events: what a follower needs
// to go on from there.
type Mark struct {
	Stdout      int64 `json:"stdout"`    // bytes of borg's standard output consumed
	Stderr      int64 `json:"stderr"`    // bytes of borg's standard error consumed
	LogLines    int   `json:"log_lines"` // lines told in log events
	StartedTold bool  `json:"started_told"`
}

// Record is what the journal remembers of one attempt.
type Record struct {
	Key       Key          `json:"-"`
	Order     *bus.Order   `json:"-"`                 // nil once it is finished, or was never seen
	Failure   *job.Failure `json:"failure,omitempty"` // the answer to its order: why it was refused; null: accepted
	Mark      Mark         `json:"mark"`
	LastSeq   int          `json:"last_seq"` // number of its last event
	Stored    int          `json:"stored"`   // events up to here are stored by the coordinator
	Finished  bool         `json:"finished"`
	Cancelled bool         `json:"cancelled"`      // its end was asked for
	Over      *job.Event   `json:"over,omitempty"` // once it is finished: its last event, without long lists
}

// Snapshot is the journal's state at one moment.
type Snapshot struct {
	Stamp   bus.Stamp
	Records []Record // open ones and tombstones, without their orders
	Depth   int      // events not known to be stored
}

// Settled is what a set of verdicts changed.
type Settled struct {
	Cancelled []Key // open attempts that are to be ended
	Forgotten []Key // their tombstones are gone
}
