package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// maxPath bounds the path of an entry, and the target of a link, in bytes. Linux
// takes no more than 4096 in one call; archives may have longer ones.
const maxPath = 16 << 10

// line is one line of borg list --json-lines.
type line struct {
	Type    string `json:"type"`
	Mode    string `json:"mode"`
	User    owner  `json:"user"`
	Group   owner  `json:"group"`
	UID     int    `json:"uid"`
	GID     int    `json:"gid"`
	Path    string `json:"path"`
	Healthy *bool  `json:"healthy"` // not said: nothing is known to be wrong
	Target  string `json:"linktarget"`
	Source  string `json:"source"`
	Size    int64  `json:"size"`
	MTime   string `json:"mtime"` // in UTC, as borg is told
}

// owner is a name. Borg gives the number in its place when there is none, as in
// an archive that was made with --numeric-ids.
type owner string

// UnmarshalJSON implements json.Unmarshaler.
func (o *owner) UnmarshalJSON(text []byte) error {
	var number json.Number
	if json.Unmarshal(text, &number) == nil && text[0] != '"' {
		*o = ""
		return nil
	}
	return json.Unmarshal(text, (*string)(o))
}

var errLine = errors.New("not a line of a listing")

// parseLine reads one line of borg list --json-lines. File names with bytes that
// are no UTF-8 have question marks in their place, as borg prints them.
func parseLine(text []byte) (fleet.File, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return fleet.File{}, fmt.Errorf("%w: %w", errLine, err)
	}
	if err := l.check(); err != nil {
		return fleet.File{}, err
	}
	file := fleet.File{
		Path: l.Path, Name: nameOf(l.Path), Type: fleet.FileType(l.Type), Mode: l.Mode, UID: l.UID, GID: l.GID,
		User: string(l.User), Group: string(l.Group), Size: l.Size, MTime: parseTime(l.MTime), Damaged: l.Healthy != nil && !*l.Healthy,
	}
	// Borg 1.2 says "-" for a hard link, and shows it in the mode only, which ls
	// does not.
	if l.Type == string(fleet.HardLink) || l.Mode[0] == 'h' {
		file.Type, file.Mode = fleet.HardLink, "-"+l.Mode[1:]
	}
	if file.Type == fleet.HardLink || file.Type == fleet.SymLink {
		if file.Target = l.Target; file.Target == "" {
			file.Target = l.Source
		}
	}
	return file, nil
}

// check refuses what borg does not print: what comes from a host is not trusted
// to be what borg printed.
func (l line) check() error {
	switch fleet.FileType(l.Type) {
	case fleet.RegularFile, fleet.Directory, fleet.SymLink, fleet.HardLink, fleet.Fifo, fleet.CharDevice, fleet.BlockDevice, fleet.Socket:
	default:
		return fmt.Errorf("%w: type %.20q", errLine, l.Type)
	}
	switch {
	case len(l.Mode) != 10:
		return fmt.Errorf("%w: mode %.20q", errLine, l.Mode)
	case l.Size < 0:
		return fmt.Errorf("%w: size %d", errLine, l.Size)
	case max(len(l.Target), len(l.Source)) > maxPath, max(len(l.User), len(l.Group)) > maxPath:
		return fmt.Errorf("%w: a field is too long", errLine)
	}
	return checkPath(l.Path)
}

func checkPath(p string) error {
	if p == "." {
		return nil
	}
	if p == "" || len(p) > maxPath || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%w: path %.40q", errLine, p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%w: path %.40q", errLine, p)
		}
	}
	return nil
}

// parseTime reads a local time without a zone; the zero time if it is none.
func parseTime(text string) time.Time {
	at, err := time.ParseInLocation("2006-01-02T15:04:05", text, time.UTC) // also takes a fraction
	if err != nil {
		return time.Time{}
	}
	return at
}

// split cuts a path into the directory it is in, "" for the top, and its name.
func split(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

func nameOf(p string) string {
	_, name := split(p)
	return name
}

// join is the reverse of split.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
