package fleet

import (
	"io"
	"time"
)

// StateBackup is a request for a copy of the coordinator's own state.
type StateBackup struct {
	Recipient string // age recipient (age1…) that it is encrypted to; empty: not encrypted
	Logs      bool   // with the logs of jobs
}

// StateCopy is a copy of the coordinator's own state, which is made while it is
// written out, once. Whoever asked for it closes it.
type StateCopy struct {
	SnapshotAt time.Time // what changed later is not in it
	Outside    []string  // what it takes besides, to set the coordinator up elsewhere
	Content    StateContent
}

// StateContent writes a copy out.
type StateContent interface {
	io.WriterTo
	io.Closer
}
