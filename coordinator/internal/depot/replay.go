package depot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/google/renameio/v2"
)

// repositoryID is how borg writes the id of a repository, which it also names
// directories after.
var repositoryID = regexp.MustCompile(`(?m)^id = ([0-9a-f]{64})$`)

// forgetNewest has the coordinator's own borg forget how new it has seen a
// repository: it would refuse the one that was put back as an older copy
// (RepositoryReplay). What borg knows besides stays: which key the repository has
// and where it is, and the nonces that were used up. Its cache goes, since it
// bears the time as well; borg makes another one.
func (s *Server) forgetNewest(repository string) error {
	config, err := os.ReadFile(filepath.Join(s.Dir(repository), configFile))
	if err != nil {
		return err
	}
	id := repositoryID.FindSubmatch(bytes.ReplaceAll(config, []byte("\r"), nil))
	if id == nil {
		return fmt.Errorf("the configuration of %s names no id", repository)
	}
	cache := filepath.Join(s.options.BaseDir, ".cache", "borg", string(id[1]))
	if err := os.Remove(filepath.Join(cache, "config")); err != nil && !errors.Is(err, fs.ErrNotExist) { // first, as borg does: without it the rest is no cache
		return err
	}
	if err := os.RemoveAll(cache); err != nil {
		return err
	}
	seen := filepath.Join(s.options.BaseDir, ".config", "borg", "security", string(id[1]), "manifest-timestamp")
	if _, err := os.Stat(seen); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return renameio.WriteFile(seen, nil, 0o600, renameio.WithStaticPermissions(0o600))
}
