package borg

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// difference reads what borg diff prints, a line for each path, as it comes: of
// any number of changes it keeps the first, and counts.
type difference struct {
	lines    splitter
	counts   job.Difference
	content  []job.Change
	metadata []job.Change // shown if there is room: each directory with a new file has a new time
	torn     error        // a line that could not be read
}

// pathChanges is one line of borg diff --json-lines.
type pathChanges struct {
	Path    string      `json:"path"`
	Changes []oneChange `json:"changes"`
}

// oneChange is one thing that differs. Which fields are there depends on its type.
type oneChange struct {
	Type     string `json:"type"` // added, removed directory, modified, changed link, mode, owner, ctime, mtime, …
	Size     int64  `json:"size"`
	Added    *int64 `json:"added"`
	Removed  *int64 `json:"removed"`
	OldMode  string `json:"old_mode"`
	NewMode  string `json:"new_mode"`
	OldUser  string `json:"old_user"`
	NewUser  string `json:"new_user"`
	OldGroup string `json:"old_group"`
	NewGroup string `json:"new_group"`
	OldMtime string `json:"old_mtime"`
	NewMtime string `json:"new_mtime"`
}

// Kinds of changes, as [job.Change] names them.
const (
	changeAdded    = "added"
	changeRemoved  = "removed"
	changeModified = "modified"
	changeMetadata = "metadata"
)

func (d *difference) write(chunk []byte) { d.lines.write(chunk, d.line) }

// line takes one path. What is no JSON, such as a greeting, is passed over.
func (d *difference) line(line []byte) {
	if !bytes.HasPrefix(line, []byte(`{`)) {
		return
	}
	var said pathChanges
	if err := json.Unmarshal(line, &said); err != nil {
		d.torn = fmt.Errorf("read borg's differences: %w", err)
		return
	}
	if change, real := said.change(); real {
		d.add(change)
	}
}

// add counts a change, and keeps it if there is room.
func (d *difference) add(change job.Change) {
	list := &d.content
	switch change.Kind {
	case changeAdded:
		d.counts.Added++
	case changeRemoved:
		d.counts.Removed++
	case changeModified:
		d.counts.Modified++
	default:
		d.counts.Metadata++
		list = &d.metadata
	}
	d.counts.AddedBytes += change.Added
	d.counts.RemovedBytes += change.Removed
	if len(*list) < job.MaxChanges {
		*list = append(*list, change)
	}
}

// change sums up what differs at a path. Borg 1.2 also tells a changed ctime,
// which follows from nearly everything, and calls each touched file modified by
// no bytes: neither is a change of its own.
func (s pathChanges) change() (change job.Change, real bool) {
	change = job.Change{Path: clean(s.Path)}
	var details []string
	touched := "" // follows from a change of what is in it
	for _, c := range s.Changes {
		switch kind, what, _ := strings.Cut(c.Type, " "); {
		case kind == changeAdded || kind == changeRemoved || kind == "changed":
			change.Kind, change.Type = kindOf(kind), typeOf(what)
		case kind == changeModified && !c.untouched():
			change.Kind, change.Type = changeModified, typeOf("")
		case kind == changeModified:
			change.Type = typeOf("")
			continue
		}
		change.Added += c.bytes(c.Added, changeAdded)
		change.Removed += c.bytes(c.Removed, changeRemoved)
		switch detail := c.detail(); {
		case c.Type == "mtime":
			touched = detail
		case detail != "":
			details = append(details, detail)
		}
		if c.turned() {
			change.Kind, change.Type = changeModified, typeOfMode(c.NewMode)
		}
	}
	if change.Kind == "" {
		change.Kind = changeMetadata
		if touched != "" {
			details = append(details, touched)
		}
	}
	change.Detail = head(clean(strings.Join(details, ", ")), maxFactBytes)
	return change, change.Kind != changeMetadata || change.Detail != ""
}

// untouched reports whether a file is called modified although nothing in it is:
// borg gives no numbers if it could not tell how much is.
func (c oneChange) untouched() bool {
	return c.Added != nil && c.Removed != nil && *c.Added == 0 && *c.Removed == 0
}

// bytes returns how much was added or removed.
func (c oneChange) bytes(told *int64, kind string) int64 {
	if told != nil {
		return max(*told, 0)
	}
	if c.Type == kind {
		return max(c.Size, 0)
	}
	return 0
}

// turned reports whether a file has become a directory or the like.
func (c oneChange) turned() bool {
	return c.OldMode != "" && c.NewMode != "" && c.OldMode[0] != c.NewMode[0]
}

// detail says a change of metadata in words.
func (c oneChange) detail() string {
	switch c.Type {
	case "mode":
		return "mode " + c.OldMode + " to " + c.NewMode
	case "owner":
		return "owner " + c.OldUser + ":" + c.OldGroup + " to " + c.NewUser + ":" + c.NewGroup
	case "mtime":
		return "time " + wholeSecond(c.OldMtime) + " to " + wholeSecond(c.NewMtime)
	default:
		return ""
	}
}

// wholeSecond cuts a time in UTC, as borg prints it, to what a person reads.
func wholeSecond(text string) string {
	if at, ok := localTime(text); ok {
		return at.Format("2006-01-02 15:04:05")
	}
	return text
}

func kindOf(word string) string {
	if word == "changed" { // a link that leads elsewhere
		return changeModified
	}
	return word
}

// typeOf translates what borg calls an entry; of a plain file it says nothing.
func typeOf(word string) string {
	switch word {
	case "":
		return "file"
	case "directory", "link":
		return word
	default:
		return "other"
	}
}

// typeOfMode translates the first letter of a mode.
func typeOfMode(mode string) string {
	switch mode[0] {
	case '-':
		return "file"
	case 'd':
		return "directory"
	case 'l':
		return "link"
	default:
		return "other"
	}
}

// fillDifference completes the result of a diff: what is in files before what is
// only about them.
func (p *Parser) fillDifference(result *job.Result) error {
	d := &p.changes
	d.lines.flush(d.line)
	if d.torn != nil {
		return d.torn
	}
	sum := d.counts
	room := min(job.MaxChanges-len(d.content), len(d.metadata))
	sum.Changes = append(append([]job.Change{}, d.content...), d.metadata[:room]...)
	sum.Omitted = sum.Added + sum.Removed + sum.Modified + sum.Metadata - int64(len(sum.Changes))
	result.Diff = &sum
	return nil
}
