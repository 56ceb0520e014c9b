package depot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/borgfleet/borgfleet/shared/job"
)

// lockDir is the lock of who writes.
const lockDir = "lock.exclusive"

// own is the name under which this process takes locks, as borg makes them.
func (s *Server) own() string { return fmt.Sprintf("%s.%d-0", s.options.HostID, os.Getpid()) }

// unlockAbandoned removes locks that a coordinator which was killed has left under
// the name that this one has: in a container both have the same number, and borg
// would wait for the holder forever.
func (s *Server) unlockAbandoned() error {
	s.locking.Lock()
	defer s.locking.Unlock()
	entries, err := os.ReadDir(s.options.Path)
	for _, entry := range entries {
		path := filepath.Join(s.options.Path, entry.Name(), lockDir)
		if _, gone := os.Lstat(filepath.Join(path, s.own())); gone != nil {
			continue
		}
		s.logger.Warn("removing a lock that an earlier coordinator has left", "repo", entry.Name())
		err = errors.Join(err, s.clear(path))
	}
	return err
}

// lock takes a repository's lock as borg would: a directory that one process can
// make, with a file in it whose name says which, and nobody else in the roster of
// readers. It is called with s.locking, which must be kept until the release.
func (s *Server) lock(repository string) (release func(), err error) {
	path := filepath.Join(s.Dir(repository), lockDir)
	mine := filepath.Join(path, s.own())
	release = func() {
		os.Remove(mine)
		os.Remove(path)
	}
	if err := s.clear(path); err != nil {
		return nil, fmt.Errorf("lock %s: %w", repository, err)
	}
	if err := os.Mkdir(path, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, inUse(repository)
	} else if err != nil {
		return nil, fmt.Errorf("lock %s: %w", repository, err)
	}
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		release()
		return nil, fmt.Errorf("lock %s: %w", repository, err)
	}
	read, err := s.beingRead(repository)
	if err == nil && read {
		err = inUse(repository)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func inUse(repository string) error {
	return job.Fail(job.RepositoryLocked, "repository %s is in use", repository).
		WithHint("wait for its jobs, or cancel them; borgfleet repo break-lock %s removes what a dead process has left", repository)
}

// clear removes the lock of a process of ours that is gone.
func (s *Server) clear(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		process := name[:max(strings.LastIndexByte(name, '-'), 0)]
		dot := max(strings.LastIndexByte(process, '.'), 0)
		if pid, err := strconv.Atoi(strings.TrimPrefix(process[dot:], ".")); err != nil || !s.dead(process[:dot], pid) {
			return nil
		}
	}
	for _, entry := range entries {
		if err := os.Remove(filepath.Join(path, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

// dead reports whether a holder is certainly gone. Who has another host's name
// is not known here. This process is no holder: it is asked by who wants to be one.
func (s *Server) dead(host string, pid int) bool {
	return host == s.options.HostID && pid > 0 && (pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH))
}

// beingRead reports whether a process that may live has the repository open to
// read it.
func (s *Server) beingRead(repository string) (bool, error) {
	text, err := os.ReadFile(filepath.Join(s.Dir(repository), "lock.roster"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return false, nil
	}
	var roster struct {
		Shared [][3]json.RawMessage `json:"shared"` // host, process, thread
	}
	if err == nil {
		err = json.Unmarshal(text, &roster)
	}
	if err != nil {
		return false, fmt.Errorf("who reads %s: %w", repository, err)
	}
	for _, holder := range roster.Shared {
		var host string
		var pid int
		if json.Unmarshal(holder[0], &host) != nil || json.Unmarshal(holder[1], &pid) != nil || !s.dead(host, pid) {
			return true, nil
		}
	}
	return false, nil
}
