package catalog

import (
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// branch knows which directories above the present entry there are already, so
// that those that borg does not list can be made up: of /srv/data it lists
// srv/data, but not srv. Borg prints a directory before what is in it; where it
// does not, a directory is made up more than once, and the sort leaves one.
type branch struct{ dirs []string }

// enter calls makeUp for each directory on the way to a file that has not been
// there on this branch, and remembers the file if it is a directory.
func (b *branch) enter(file fleet.File, makeUp func(fleet.File) error) error {
	dir, _ := split(file.Path)
	for len(b.dirs) > 0 && !isOrHolds(b.dirs[len(b.dirs)-1], dir) {
		b.dirs = b.dirs[:len(b.dirs)-1]
	}
	known := 0 // bytes of dir that are known
	if len(b.dirs) > 0 {
		known = len(b.dirs[len(b.dirs)-1])
	}
	for known < len(dir) {
		from := known
		if from > 0 {
			from++ // the slash
		}
		known = len(dir)
		if i := strings.IndexByte(dir[from:], '/'); i >= 0 {
			known = from + i
		}
		missing := dir[:known]
		b.dirs = append(b.dirs, missing)
		if err := makeUp(fleet.File{Path: missing, Name: nameOf(missing), Type: fleet.Directory, Mode: unknownMode}); err != nil {
			return err
		}
	}
	if file.Type == fleet.Directory {
		b.dirs = append(b.dirs, file.Path)
	}
	return nil
}

// isOrHolds reports whether p is a directory or lies in it.
func isOrHolds(dir, p string) bool {
	return strings.HasPrefix(p, dir) && (len(p) == len(dir) || p[len(dir)] == '/')
}
