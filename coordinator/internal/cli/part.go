package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/disk"
)

// part is a file that is on its way: it lies beside its target, and takes the
// target's name when it is whole. What was not finished stays, also after a
// crash, so that it can be gone on with.
type part struct {
	*os.File
	target string
	size   int64 // when it was opened
	force  bool
}

// partMode says what becomes of what is there.
type partMode struct {
	goOn  bool // go on with a part
	force bool // replace the target, and begin a part anew
}

// partKey tells downloads apart, so that none goes on with what another began.
// An archive's id tells it from another one of the same name, where it is known.
func partKey(s *session, api *client.Client, c archiveDownload) string {
	id := ""
	if archive, err := api.Archive(s.ctx, c.Name, c.Archive); err == nil {
		id = archive.ID
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{c.Name, c.Archive, id, c.Path, string(c.Format)}, "\x00")))
	return hex.EncodeToString(sum[:4])
}

// openPart opens the part of a target. No other process can open it meanwhile.
func openPart(target, key string, mode partMode) (*part, error) {
	if info, err := os.Lstat(target); err == nil && (!mode.force || !info.Mode().IsRegular()) {
		return nil, console.Usage("%s is there already (choose another name with -o, or add --force to replace a file)", target)
	}
	name := fmt.Sprintf("%s.%s.part", target, key)
	flags := os.O_WRONLY | os.O_APPEND
	switch {
	case mode.goOn:
	case mode.force:
		flags |= os.O_CREATE
	default:
		flags |= os.O_CREATE | os.O_EXCL
	}
	file, err := os.OpenFile(name, flags|syscall.O_NOFOLLOW, 0o600) // as private as the archive
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, console.Usage("this download was begun before (add --continue to go on with it, or --force to begin anew)")
	case errors.Is(err, fs.ErrNotExist) && mode.goOn:
		return nil, console.Usage("there is nothing to go on with: no %s (leave out --continue, or give the same archive, path, format and -o as before)", name)
	case errors.Is(err, fs.ErrNotExist):
		return nil, console.Usage("-o: there is no directory %s", filepath.Dir(target))
	case err != nil:
		return nil, fmt.Errorf("open the part: %w", err)
	}
	p := &part{File: file, target: target, force: mode.force}
	if err := p.take(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// take locks the part, and finds out where it ends.
func (p *part) take() error {
	if err := syscall.Flock(int(p.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s is being downloaded by another process", p.target)
	}
	if p.force {
		return p.Truncate(0)
	}
	info, err := p.Stat()
	if err != nil {
		return fmt.Errorf("look at the part: %w", err)
	}
	p.size = info.Size()
	return nil
}

// finish gives the part its target's name, on the disk for good.
func (p *part) finish() error {
	if err := p.Sync(); err != nil {
		return err
	}
	if _, err := os.Lstat(p.target); err == nil && !p.force {
		return fmt.Errorf("%s was made by somebody else meanwhile (what came is in %s)", p.target, p.Name())
	}
	if err := os.Rename(p.Name(), p.target); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(p.target))
}

// close lets the part go. An empty one is of no use to anybody.
func (p *part) close() {
	if info, err := p.Stat(); err == nil && info.Size() == 0 {
		_ = os.Remove(p.Name()) // or it is gone under its new name
	}
	_ = p.Close() // synced by finish, or given up
}
