// Package control lets commands on the same machine ask the running agent how
// it is: a Unix socket in the data directory, open to the agent's own user
// only. Whoever connects gets one JSON document.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	socketName = "agent.sock"
	deadline   = 5 * time.Second
	maxAnswer  = 16 << 20
)

// Server answers on the socket.
type Server struct {
	listener net.Listener
	dir      *os.File
	answer   func() (any, error)
	logger   hclog.Logger
}

// Listen makes the socket in dir, in place of one that a dead agent left. The
// caller must hold dir's lock, so that there is no living one. answer is called
// once for each caller.
func Listen(dir string, answer func() (any, error), logger hclog.Logger) (*Server, error) {
	handle, path, err := short(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("remove old socket: %w", err), handle.Close())
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen in %s: %w", dir, err), handle.Close())
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket: %w", err), listener.Close(), handle.Close())
	}
	return &Server{listener: listener, dir: handle, answer: answer, logger: logger.Named("control")}, nil
}

// short returns a path of the socket in dir that is short enough for the
// system (108 bytes), by way of an open handle on dir.
func short(dir string) (*os.File, string, error) {
	handle, err := os.Open(dir)
	if err != nil {
		return nil, "", fmt.Errorf("open data directory: %w", err)
	}
	return handle, filepath.Join("/proc/self/fd", strconv.Itoa(int(handle.Fd())), socketName), nil
}

// Run answers until ctx ends, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() }) // which ends Accept
	defer stop()
	defer s.dir.Close()
	for {
		conn, err := s.listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on socket: %w", err)
		}
		if err := s.serve(conn); err != nil {
			s.logger.Warn("answer a local command", "err", err)
		}
	}
}

func (s *Server) serve(conn net.Conn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	answer, err := s.answer()
	if err != nil {
		return err
	}
	return json.NewEncoder(conn).Encode(answer)
}

// Ask decodes the answer of the agent that runs on dir. The error is a
// *job.Failure with code unavailable when none does.
func Ask(ctx context.Context, dir string, answer any) error {
	handle, path, err := short(dir)
	if err != nil {
		return notRunning(dir, err)
	}
	defer handle.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return notRunning(dir, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(conn, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("decode the agent's answer: %w", err)
	}
	return nil
}

func notRunning(dir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return job.Fail(job.NotAllowed, "ask the agent that uses %s: %s", dir, errors.Unwrap(err)).
			WithHint("run this as the agent's user, usually root")
	}
	return job.Fail(job.Unavailable, "no agent runs with the data directory %s", dir).
		WithHint("start it (systemctl start borgfleet-agent), or name its directory with --data")
}
