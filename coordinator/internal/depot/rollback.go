package depot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Rollback puts a repository back to where it was after a transaction that
// [Server.Transactions] names, and its configuration to what was kept. Whatever
// came later goes aside into a directory beside the repository, so that nothing
// is lost; borg makes a new index at the next access. Hosts are put out before,
// and kept out until it is done. The error is a *job.Failure where somebody can
// do something about it: no such transaction, or the repository is in use.
//
// After it, the borg of hosts that have seen what came later refuses the
// repository (RepositoryReplay) until its cache of it is removed. The
// coordinator's own, which has the same base directory, does not.
func (s *Server) Rollback(repository string, to int) error {
	defer s.table.hold(repository)()
	known, err := s.Transactions(repository)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(t fleet.Transaction) bool { return t.Number == to }) {
		return job.Fail(job.InvalidRequest, "repository %s cannot be put back to transaction %d", repository, to).
			WithHint("borgfleet repo transactions %s shows to which it can", repository)
	}
	s.locking.Lock()
	defer s.locking.Unlock()
	release, err := s.lock(repository)
	if err != nil {
		return err
	}
	defer release()
	aside := filepath.Join(s.options.Path, asideDir, repository, time.Now().UTC().Format("20060102T150405.000Z"))
	if err := s.rollback(repository, to, aside); err != nil {
		return fmt.Errorf("roll %s back to transaction %d: %w", repository, to, err)
	}
	s.logger.Warn("rolled a repository back", "repo", repository, "transaction", to, "aside", aside)
	return nil
}

// rollback goes from the newest to the oldest: wherever it ends, what is left is
// a repository.
func (s *Server) rollback(repository string, to int, aside string) error {
	s.snapshot.Lock()
	defer s.snapshot.Unlock()
	paths, numbers, err := s.segments(repository)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(aside, 0o700), s.forgetAfter(repository, to, numbers), s.forgetNewest(repository)); err != nil {
		return err
	}
	if err := s.setIndexAside(repository, aside); err != nil {
		return err
	}
	touched := map[string]bool{}
	for _, n := range slices.Backward(numbers) {
		if n <= to {
			break
		}
		within, err := filepath.Rel(s.Dir(repository), paths[n])
		if err != nil {
			return err
		}
		if err := move(paths[n], filepath.Join(aside, within)); err != nil {
			return err
		}
		touched[filepath.Dir(paths[n])] = true
	}
	if err := errors.Join(s.putConfigBack(repository, aside), s.trimNotes(repository, to, aside)); err != nil {
		return err
	}
	for dir := range touched {
		if err := disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return errors.Join(disk.SyncDir(aside), disk.SyncDir(s.Dir(repository)))
}

// move moves a file, to where a directory may have to be made.
func move(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// setIndexAside leaves borg to make its index anew.
func (s *Server) setIndexAside(repository, aside string) error {
	entries, err := os.ReadDir(s.Dir(repository))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch kind, _, _ := strings.Cut(entry.Name(), "."); kind {
		case "index", "hints", "integrity":
			if err := move(filepath.Join(s.Dir(repository), entry.Name()), filepath.Join(aside, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) putConfigBack(repository, aside string) error {
	changed, err := s.ConfigChanged(repository)
	if err != nil || !changed {
		return err
	}
	kept, err := os.ReadFile(s.kept(repository, configFile))
	if err != nil {
		return err
	}
	return s.replace(repository, configFile, aside, kept)
}

// trimNotes takes what was undone out of borg's notes: it gives the numbers again.
func (s *Server) trimNotes(repository string, to int, aside string) error {
	text, err := os.ReadFile(filepath.Join(s.Dir(repository), transactionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var left bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if n, _, ok := note(strings.TrimSuffix(line, "\n")); ok && n <= to {
			left.WriteString(line)
		}
	}
	return s.replace(repository, transactionsFile, aside, left.Bytes())
}

// replace gives a file of a repository other content, and keeps what it was.
func (s *Server) replace(repository, file, aside string, content []byte) error {
	path := filepath.Join(s.Dir(repository), file)
	was, err := os.ReadFile(path)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(aside, file), was, 0o600, renameio.WithStaticPermissions(0o600))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return renameio.WriteFile(path, content, 0o600, renameio.WithStaticPermissions(0o600))
}

// forgetAfter lets segments go by our own doing, so that there is still a way
// further back.
func (s *Server) forgetAfter(repository string, to int, numbers []int) error {
	known, err := s.recall(repository)
	if err != nil {
		return err
	}
	known.Transaction, known.Segments = to, rows(numbers, to)
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return s.keep(repository, memoryFile, text)
}
