package process

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Command is what to run, and how. It never holds a secret: all of it is
// written to the job directory.
type Command struct {
	// ID names the run, "<job>.<attempt>", and its directory. One ID is run at
	// most once, however often it is started.
	ID string
	// Argv is the program, by path or by a name that is looked up in PATH, and
	// its arguments.
	Argv []string
	// Env holds KEY=VALUE settings that come on top of the base environment:
	// of the starter's own variables only PATH, HOME, USER, LOGNAME, LANG,
	// LC_*, TZ, TMPDIR and SSH_AUTH_SOCK are passed on. Anything else might
	// hold a secret, or change what borg does. BORGFLEET_DIR names the run's
	// directory: what the program keeps there is removed with it.
	Env []string
	// Dir is the program's working directory; empty means "/".
	Dir string
	// MakeDir says that the program writes into Dir. It is made, 0700, with its
	// parents, when it is missing, and no part of it may be a symbolic link: it
	// is where its name says, or nothing is started.
	MakeDir bool
	// EmptyDir says that nothing may be started when there is anything in Dir.
	EmptyDir bool
	// Recipient is an age recipient (age1…). What the program prints on
	// standard output is then encrypted to it, as an armoured age file, before
	// it is written anywhere, and that file is what Follow delivers. It is
	// whole only if the program printed something and closed its output.
	Recipient string
	// Pipe hands the program's standard output to the reader that
	// [Local.Output] returns, instead of a file: the program waits for it, before
	// it is started and whenever it is ahead, and its writes fail once the reader
	// is gone. Follow delivers standard error alone.
	Pipe bool
	// Nice is the scheduling priority, -20 to 19; 0 leaves it as it is.
	Nice int
	// IOClass is the I/O priority: "idle", "best-effort" or "realtime", the
	// latter two with ":0" (first) to ":7" (last); empty leaves it as it is.
	IOClass string
}

// Offsets counts bytes of a run's two outputs.
type Offsets struct {
	Stdout int64 `json:"stdout"`
	Stderr int64 `json:"stderr"`
}

// Chunk is a piece of output; either part may be empty. The slices are only
// valid until the function that got them returns.
type Chunk struct{ Stdout, Stderr []byte }

// Started tells of a program that was started. Both fields are zero when it is
// only known that it was: it is then lost (see [Exit]).
type Started struct {
	PID int
	At  time.Time
}

// Exit tells how a run ended.
type Exit struct {
	Code      int       // exit code; -1 when ended by a signal, not started, or lost
	Signal    int       // number of the signal that ended it, or 0
	StartedAt time.Time // zero when not started, or not known
	EndedAt   time.Time // zero when not started, or lost
	// Lived is how long the program ran, by a clock that nobody sets; 0 when
	// not started, or not known.
	Lived time.Duration
	// StartError says why the program could not be started; empty when it was.
	StartError string
	// StartErrno is the system's error number when the program itself could not
	// be run (ENOENT: there is none), or its directory not be entered; or 0.
	StartErrno syscall.Errno
	// StartDir says that StartErrno is about the working directory.
	StartDir bool
	// Lost says that the program is gone and nobody saw how it ended.
	Lost bool
}

// Signal is a signal that can be sent to a run.
type Signal string

// The signals.
const (
	Interrupt Signal = "interrupt" // SIGINT
	Terminate Signal = "terminate" // SIGTERM
	Kill      Signal = "kill"      // SIGKILL
)

// ErrNotStarted says that nothing was ever started under an ID, or that all
// traces of it are gone.
var ErrNotStarted = errors.New("nothing was started under this id")

// ErrRunning says that a run's directory cannot be removed because it is not
// over.
var ErrRunning = errors.New("still running")

// StartError is returned by Start when it is certain that the program does not
// run and never did under this ID.
type StartError struct {
	Doing   string // what was being done: "make job directory /x"
	Err     error  // why it could not be done; often a syscall.Errno
	Program bool   // the program itself cannot be run, not something around it
	Dir     bool   // its working directory cannot be entered or made, or (ENOTEMPTY) is not empty
}

// Error implements error.
func (e *StartError) Error() string { return fmt.Sprintf("%s: %v", e.Doing, e.Err) }

// Unwrap gives errors.Is the cause.
func (e *StartError) Unwrap() error { return e.Err }
