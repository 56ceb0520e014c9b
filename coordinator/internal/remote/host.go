// Package remote runs programs that outlive their follower on a host that has
// nothing but a POSIX shell and borg. It keeps the promises of shared/process by
// scripts: everything about a run is in its directory on the host, a supervisor
// of its own session stands between the connection and borg, and whoever comes
// later reads the same bytes from any offset. DESIGN.md says how.
package remote

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/borg"
)

// Shell runs scripts on the host, by its /bin/sh. It is safe for concurrent use.
type Shell interface {
	// Exec runs a script whose standard input is input, and returns its exit code
	// when it is over and both outputs are delivered. An error says that it is not
	// known what became of the script, or that it never began; a *job.Failure
	// among them is for people. The end of ctx ends the wait, and perhaps the
	// script.
	Exec(ctx context.Context, script string, input []byte, out, errs io.Writer) (code int, err error)
	// ExecLong is Exec for a script that runs as long as a job does. When too many
	// of them run it fails at once, with code unavailable.
	ExecLong(ctx context.Context, script string, input []byte, out, errs io.Writer) (code int, err error)
}

// Options are what a Host needs.
type Options struct {
	Shell  Shell
	Host   string // its name
	Dir    string // absolute path of what we keep there; empty: .borgfleet in the home directory
	Borg   string // path of borg there; empty: as the PATH finds it
	Hooks  string // directory of the scripts that jobs may name; empty: fleet.DefaultHooks
	Logger hclog.Logger
	// ReaderPatience is how long a command with Pipe waits for its reader; 0: a
	// minute.
	ReaderPatience time.Duration
}

// readerPatience is how long a program waits for the reader of its output before
// it is started.
const readerPatience = time.Minute

// Host is the executor of one host, and all else that its worker needs. What
// runs there is found on the host itself; a Host remembers only what it would be
// told again, and output that was encrypted on its way. It is safe for
// concurrent use.
type Host struct {
	options Options
	logger  hclog.Logger
	shell   string // of the host
	paths   string // where programs are looked for when the login's PATH does not have them
	proc    string // where the host lists its processes; empty: nowhere

	mu       sync.Mutex
	version  *answer            // what borg there said of itself, if it is known
	followed map[string]int     // runs that are followed now, and by how many
	outputs  map[string]*output // of runs whose output is read here
	sealed   map[string]*sealed // output that is encrypted here
	ways     map[string]string  // prepared ways to the depot
}

// answer is what borg said of itself, and when.
type answer struct {
	version borg.Version
	at      time.Time
}

// usualPaths are the directories of programs on most hosts.
const usualPaths = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// New returns a Host.
func New(o Options) *Host {
	if o.Hooks == "" {
		o.Hooks = fleet.DefaultHooks
	}
	if o.Borg == "" {
		o.Borg = "borg"
	}
	if o.ReaderPatience <= 0 {
		o.ReaderPatience = readerPatience
	}
	return &Host{
		options: o, logger: o.Logger.Named("remote").With("host", o.Host),
		shell: "/bin/sh", paths: usualPaths, proc: "/proc",
		followed: map[string]int{}, outputs: map[string]*output{}, sealed: map[string]*sealed{}, ways: map[string]string{},
	}
}

// Executor returns the host as its worker's engine and runs.
func (h *Host) Executor() *Host { return h }

// Forget drops what was found out about the host's programs and files: it is to
// be called when there is a new connection, since the host may be another one.
func (h *Host) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.version = nil
	clear(h.ways)
}
