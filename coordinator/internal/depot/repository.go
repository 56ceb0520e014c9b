package depot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Beside the repositories, under names that no repository can have.
const (
	keptDir  = ".kept"  // what is known of each, by its name
	asideDir = ".aside" // what was rolled back, by its name and when
)

const configFile = "config"

// Dir is the absolute path of a repository, whether or not it is there.
func (s *Server) Dir(repository string) string { return filepath.Join(s.options.Path, repository) }

func (s *Server) kept(repository, file string) string {
	return filepath.Join(s.options.Path, keptDir, repository, file)
}

// exists reports whether there is such a repository.
func (s *Server) exists(repository string) bool {
	if job.CheckRepositoryName("repository", repository) != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(s.Dir(repository), configFile))
	return err == nil
}

// present returns a *job.Failure when there is no such repository.
func (s *Server) present(repository string) error {
	if s.exists(repository) {
		return nil
	}
	return job.Fail(job.RepositoryMissing, "there is no repository %s in the depot", repository).
		WithHint("borgfleet repo list shows which there are")
}

// prepare notes what a repository is like, before a host gets to it.
func (s *Server) prepare(grant fleet.DepotGrant) error {
	if !s.exists(grant.Repository) {
		return nil
	}
	_, err := os.Stat(s.kept(grant.Repository, configFile))
	if grant.AppendOnly && errors.Is(err, fs.ErrNotExist) {
		if err := s.KeepConfig(grant.Repository); err != nil {
			return err
		}
	}
	return s.remember(grant.Repository)
}

// KeepConfig keeps a copy of a repository's configuration, in which its key is,
// too, with some kinds of encryption. The server does so by itself before a host
// that may only add to the repository gets to it for the first time; it is for
// callers who have changed the configuration.
func (s *Server) KeepConfig(repository string) error {
	if err := s.present(repository); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(s.Dir(repository), configFile))
	if err != nil {
		return fmt.Errorf("keep configuration of %s: %w", repository, err)
	}
	return s.keep(repository, configFile, config)
}

func (s *Server) keep(repository, file string, content []byte) error {
	path := s.kept(repository, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep %s of %s: %w", file, repository, err)
	}
	if err := renameio.WriteFile(path, content, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("keep %s of %s: %w", file, repository, err)
	}
	return nil
}

// ConfigChanged reports whether a repository's configuration is another one than
// was kept: somebody has changed the passphrase, say. How far checks in parts have
// come does not count. One of which none was kept
// has not changed, as no host has been there.
func (s *Server) ConfigChanged(repository string) (bool, error) {
	kept, err := os.ReadFile(s.kept(repository, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("kept configuration of %s: %w", repository, err)
	}
	config, err := os.ReadFile(filepath.Join(s.Dir(repository), configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("configuration of %s: %w", repository, err)
	}
	return !bytes.Equal(lasting(kept), lasting(config)), nil
}

// lasting is a configuration without where borg's last check in parts has ended,
// which such a check of ours notes there.
func lasting(config []byte) []byte {
	var lines []byte
	for line := range bytes.Lines(config) {
		if !bytes.HasPrefix(line, []byte("last_segment_checked ")) {
			lines = append(lines, line...)
		}
	}
	return lines
}
