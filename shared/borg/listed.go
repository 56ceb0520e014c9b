package borg

import (
	"regexp"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// listed is what borg names one by one: the archives that it keeps, prunes and
// deletes, and for a download the file.
type listed struct {
	kept, pruned, deleted notes
	keptBy                map[string]string // the rule, by the archive's name
	missing               int               // delete: names that no archive has
	files                 int               // download
}

// add takes a line of borg's list.
func (l *listed) add(kind job.Kind, text string) {
	text = strings.TrimPrefix(text, remotePrefix)
	switch kind {
	case job.Prune:
		l.prune(text)
	case job.Delete:
		if match := deleteLine.FindStringSubmatch(text); match != nil {
			l.deleted.add(match[1], job.MaxArchives)
		}
	case job.Download:
		l.files++
	}
}

// column is how borg formats an archive: the name in a column of at least 36,
// the time, and the id.
const column = ` +(\S.*?) +[A-Z][a-z]{2}, [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?: [+-][0-9]{4})? \[[0-9a-f]+\]`

var (
	pruneLine  = regexp.MustCompile(`^(Keeping|Pruning|Would prune)( checkpoint)?(?: archive)?(?: \((?:rule: )?([^)]*)\))?:` + column + `$`)
	deleteLine = regexp.MustCompile(`^(?:Deleting|Would delete|Deleted)(?: archive)?:` + column + `(?: \([0-9]+/[0-9]+\))?$`)
)

func (l *listed) prune(text string) {
	match := pruneLine.FindStringSubmatch(text)
	switch {
	case match == nil:
	case match[1] != "Keeping":
		l.pruned.add(match[4], job.MaxArchives)
	default:
		l.kept.add(match[4], job.MaxArchives)
		rule := match[3]
		if match[2] != "" {
			rule = "checkpoint"
		}
		if l.kept.omitted > 0 || rule == "" {
			return
		}
		if l.keptBy == nil {
			l.keptBy = make(map[string]string)
		}
		l.keptBy[l.kept.texts[len(l.kept.texts)-1]] = head(clean(rule), maxFactBytes)
	}
}

var notFound = regexp.MustCompile(`(?s)^Archive .* not found(?: \([0-9]+/[0-9]+\))?\.$`)

// undeleted notes a name that no archive has. Borg 1.2 goes on, and ends well.
func (l *listed) undeleted(text string) {
	if notFound.MatchString(text) {
		l.missing++
	}
}

func (l *listed) fill(result *job.Result) {
	result.Kept, result.KeptOmitted, result.KeptBy = l.kept.texts, l.kept.omitted, l.keptBy
	result.Pruned, result.PrunedOmitted = l.pruned.texts, l.pruned.omitted
	result.Deleted, result.DeletedOmitted = l.deleted.texts, l.deleted.omitted
}
