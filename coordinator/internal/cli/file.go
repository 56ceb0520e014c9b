package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/borgfleet/borgfleet/shared/console"
)

// privateFile begins a file that only its owner can read, also where there was
// another one of that name. It takes the name, as a whole, when it is closed by
// CloseAtomicallyReplace; Cleanup takes back what was not.
func privateFile(path string) (*renameio.PendingFile, error) {
	return renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o600), renameio.WithStaticPermissions(0o600))
}

// newFile begins the private file of --output. It is begun before what shall be
// in it is made, since that may be told only once.
func newFile(path string) (*renameio.PendingFile, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, console.Usage("--output %s is there already (choose another name)", path)
	}
	file, err := privateFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, console.Usage("--output: there is no directory %s", filepath.Dir(path))
	case err != nil:
		return nil, fmt.Errorf("write --output: %w", err)
	}
	return file, nil
}

// finish gives a file its content and its name.
func finish(file *renameio.PendingFile, content []byte) error {
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}
