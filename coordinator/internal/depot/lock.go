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

// lock takes a repository's lock as borg would: a directory that one process can
// make, with a file in it whose name says which, and nobody else in the roster of
// readers.
func (s *Server) lock(repository string) (release func(), err error) {
	path := filepath.Join(s.Dir(repository), "lock.exclusive")
	mine := filepath.Join(path, fmt.Sprintf("%s.%d-0", s.options.HostID, os.Getpid()))
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
// is not known here.
func (s *Server) dead(host string, pid int) bool {
	return host == s.options.HostID && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
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
