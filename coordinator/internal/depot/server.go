package depot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Options are what a server is made of.
type Options struct {
	Listen  string // host:port; port 0 picks a free one
	Path    string // directory of the repositories; made when it is not there
	Borg    string // path of borg, or a name to look up; empty: borg
	KeyFile string // the server's own key, mode 0600; made when it is not there
	// HostID and BaseDir are BORG_HOST_ID and BORG_BASE_DIR of what runs here. The
	// coordinator's own jobs have the same host id: then what a borg that was
	// killed has left locked clears itself. Empty HostID: "borgfleet-depot"; empty
	// BaseDir: .borg in Path.
	HostID  string
	BaseDir string
	// Grant says what the holder of a key (in authorized_keys form, without a
	// comment) may do with a repository. With a failure that names a host, the
	// login works and the reason is told; with one that does not, it does not. It
	// is called concurrently, and again and again while a connection is open: what
	// is no longer granted ends.
	Grant func(publicKey, repository string) (fleet.DepotGrant, *job.Failure)
	// Busy reports whether the coordinator itself works on a repository, which
	// then takes nobody else. Nil: never. It is called concurrently.
	Busy   func(repository string) bool
	Logger hclog.Logger
}

// times bound what clients take.
type times struct {
	handshake time.Duration // in which a client proves who it is
	request   time.Duration // in which it then asks for something
	keepalive time.Duration // after which it is asked whether it is there
}

var defaultTimes = times{handshake: 10 * time.Second, request: 30 * time.Second, keepalive: 15 * time.Second}

// Server lets hosts reach repositories. It is safe for concurrent use.
type Server struct {
	options  Options
	times    times
	key      ssh.Signer
	listener net.Listener
	places   *places
	meter    *meter
	table    *table
	refused  rate.Sometimes // of what is refused, what is logged
	logger   hclog.Logger

	over     context.Context // done when the server ends
	stop     context.CancelFunc
	serving  sync.WaitGroup
	locking  sync.Mutex // held by who has, or takes, borg's lock of a repository
	snapshot sync.Mutex // the files in which is kept what a repository was like
}

// New returns a server that listens; Run answers. A fault that an operator can
// mend is a *job.Failure.
func New(o Options) (*Server, error) {
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("depot %s: %w", o.Path, err)
	}
	o.Path, o.Borg, o.HostID = path, cmp.Or(o.Borg, "borg"), cmp.Or(o.HostID, "borgfleet-depot")
	o.BaseDir = cmp.Or(o.BaseDir, filepath.Join(path, ".borg"))
	if o.Busy == nil {
		o.Busy = func(string) bool { return false }
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, job.Fail(job.PermissionDenied, "the depot's directory cannot be made: %s", err).
			WithHint("set depot.path to a directory that the coordinator may write to")
	}
	key, err := hostKey(o.KeyFile)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, cannotListen(o.Listen, err)
	}
	over, stop := context.WithCancel(context.Background())
	return &Server{
		options: o, times: defaultTimes, key: key, listener: listener, over: over, stop: stop,
		places: newPlaces(), meter: newMeter(), table: newTable(),
		refused: rate.Sometimes{First: 10, Interval: 10 * time.Second},
		logger:  o.Logger.Named("depot"),
	}, nil
}

func cannotListen(address string, err error) error {
	failure := job.Fail(job.Unavailable, "the depot cannot listen on %s: %s", address, err)
	if errors.Is(err, syscall.EADDRINUSE) {
		failure = job.Fail(job.Conflict, "the depot cannot listen on %s: another program does", address)
	}
	return failure.WithHint("set depot.listen in coordinator.yaml, or --depot, to a free port")
}

// Run answers until ctx is done; then it ends what is open, and returns when the
// last borg is gone.
func (s *Server) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.stop)()
	defer context.AfterFunc(s.over, func() { s.listener.Close() })()
	s.logger.Info("depot is open", "address", s.listener.Addr().String(), "path", s.options.Path, "key", s.Fingerprint())
	if err := s.unlockAbandoned(); err != nil {
		s.logger.Warn("cannot remove locks that an earlier coordinator has left", "err", err)
	}
	if err := s.look(); err != nil {
		s.logger.Warn("cannot look at what is in the depot", "err", err)
	}
	err := s.accept()
	s.stop()
	s.table.close() // also those that came another way
	s.serving.Wait()
	return err
}

func (s *Server) accept() error {
	for {
		connection, err := s.listener.Accept()
		switch {
		case s.over.Err() != nil:
			if err == nil {
				connection.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept connections to the depot: %w", err)
		case err != nil: // too many open files, say
			s.logger.Warn("cannot accept a connection", "err", err)
			select {
			case <-time.After(time.Second):
			case <-s.over.Done():
			}
			continue
		}
		s.serving.Go(func() { s.ServeConn(connection, "") })
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// HostKey is the server's public key, in authorized_keys form.
func (s *Server) HostKey() string { return keyText(s.key.PublicKey()) }

// Fingerprint is that of the server's key: "SHA256:…".
func (s *Server) Fingerprint() string { return ssh.FingerprintSHA256(s.key.PublicKey()) }

// Uses says what went to and from the repositories since the start, by name. The
// entry without a name is about logins that were refused before it was known
// whether there is such a repository.
func (s *Server) Uses() []fleet.DepotUse { return s.meter.uses() }

// Evict ends what hosts do with a repository, and returns when their borg is
// gone. It does not keep others out: Busy does.
func (s *Server) Evict(repository string) {
	s.table.evict(func(v *visit) bool { return v.grant.Repository == repository }, errBusy)
}

// Close lets the port go when Run is never called.
func (s *Server) Close() error {
	s.stop()
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

var _ io.Closer = (*Server)(nil)
