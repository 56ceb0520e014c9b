package borg

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// maxSaidBytes bounds borg's own words inside a failure's sentence.
const maxSaidBytes = 300

// failure explains a nonzero exit code that is no warning.
func (p *Parser) failure(exit Exit) *job.Failure {
	f := &p.facts
	if f.hook != "" {
		return p.explain(hookFailed, f.hook, exit)
	}
	if why, said, found := p.depotSaid(); found {
		return p.explain(why, said, exit)
	}
	for _, id := range f.causes {
		if known, ok := p.lookup(id, p.firstError()); ok {
			if component(id) == "ConnectionClosedWithHint" {
				return p.connection(known)
			}
			return p.explain(known, p.firstError(), exit)
		}
	}
	if len(f.causes) == 0 {
		if known, ok := p.lookup(modernCodes[exit.Code], ""); ok && p.task.Version.Modern() {
			return p.explain(known, p.words(), exit)
		}
	}
	switch {
	case strings.Contains(p.firstError(), "Got Ctrl-C / SIGINT"):
		return p.explain(ended, "", Exit{Code: 130})
	case f.refused != "":
		return p.explain(refusedArguments, f.refused, exit)
	default:
		return p.exception(exit)
	}
}

// component returns the last dotted component of a message id, the only part
// that is the same for a local and a remote repository.
func component(id string) string { return id[strings.LastIndexByte(id, '.')+1:] }

// lookup is the function of that name, with what the depot means by it first.
func (p *Parser) lookup(id, said string) (cause, bool) {
	archive := strings.HasPrefix(id, "Archive.") || strings.HasPrefix(said, "Archive ")
	if known, ok := depotCauses[component(id)]; ok && p.task.inDepot() && !archive {
		return known, true
	}
	return lookup(id, said)
}

// signs returns general, in the depot after special.
func (p *Parser) signs(special, general []sign) []sign {
	if p.task.inDepot() {
		return slices.Concat(special, general)
	}
	return general
}

// lookup finds the cause of a message id. An unqualified id that exists for
// archives and for repositories is told apart by borg's words.
func lookup(id, said string) (cause, bool) {
	if known, ok := causes[id]; ok && strings.Contains(id, ".") {
		return known, true
	}
	last := component(id)
	if last == id && strings.HasPrefix(said, "Archive ") {
		if known, ok := causes["Archive."+last]; ok {
			return known, true
		}
	}
	known, ok := causes[last]
	return known, ok
}

// connection refines "connection closed" by what ssh said before. Its last
// words come last, but a changed host key is the headline of a long warning.
func (p *Parser) connection(fallback cause) *job.Failure {
	for _, sign := range p.signs(depotSigns, remoteSigns) {
		for _, said := range slices.Backward(p.facts.remote) {
			if sign.in(said) {
				return p.explain(sign.cause, said, Exit{})
			}
		}
	}
	said := "ssh gave no reason"
	if n := len(p.facts.remote); n > 0 {
		said = p.facts.remote[n-1]
	}
	return p.explain(fallback, said, Exit{})
}

func (s sign) in(text string) bool {
	return slices.ContainsFunc(s.texts, func(part string) bool { return strings.Contains(text, part) })
}

// lostSegment is what Python says of a file of the repository's that is not there
// any more, though borg counts on it.
var lostSegment = regexp.MustCompile(`No such file or directory: '.*/data/[0-9]+/[0-9]+'`)

// exception classifies an error without an id of its own. Borg 1.2 reports a
// dead connection or a full disk first as read errors of every file that was
// left, as warnings.
func (p *Parser) exception(exit Exit) *job.Failure {
	f := &p.facts
	last := lastLine(f.trace)
	if said, crashed := f.crashed(); crashed {
		if strings.HasPrefix(said, "ModuleNotFoundError") || strings.HasPrefix(said, "ImportError") {
			return p.explain(brokenBorg, said, exit)
		}
		if badPattern.in(said) {
			return p.explain(badPattern.cause, said, exit)
		}
		return p.explain(unknownCause, said, exit)
	}
	switch {
	case strings.Contains(f.trace, "in fd_passphrase"):
		return p.explain(noPassphrase, last, exit)
	case strings.Contains(f.trace, "in _execute_child") && strings.Contains(f.trace, "borg/remote.py"):
		return p.explain(noClient, last, exit)
	}
	if (p.task.Kind == job.Restore || p.task.Kind == job.TestRestore) && strings.Contains(f.trace, "in extract_item") { // not its lock, nor its cache
		for _, sign := range restoreSigns {
			if sign.in(last) {
				return p.explain(sign.cause, last, exit)
			}
		}
	}
	evidence := append([]string{last}, f.errors.texts...)
	if f.diskFull {
		evidence = append(evidence, "No space left on device")
	}
	for _, text := range append(evidence, f.causes...) {
		if lostSegment.MatchString(text) {
			return p.explain(causes["ObjectNotFound"], text, exit)
		}
		for _, sign := range p.signs(depotExceptions, exceptionSigns) {
			if sign.in(text) {
				return p.explain(sign.cause, text, exit)
			}
		}
		if name, _, found := strings.Cut(text, ":"); found {
			if known, ok := causes[component(name)]; ok {
				return p.explain(known, text, exit)
			}
		}
	}
	return p.explain(unknownCause, p.words(), exit)
}

// firstError returns the first thing that borg called an error.
func (p *Parser) firstError() string {
	if len(p.facts.errors.texts) == 0 {
		return ""
	}
	return p.facts.errors.texts[0]
}

// words returns the most telling of borg's words about an unclear end.
func (p *Parser) words() string {
	f := &p.facts
	if last := lastLine(f.trace); last != "" {
		return last
	}
	for _, list := range [][]string{f.errors.texts, f.remote, f.warnings.texts} {
		if len(list) > 0 {
			return list[len(list)-1]
		}
	}
	return "it did not say why"
}

// explain fills in a cause's texts.
func (p *Parser) explain(why cause, said string, exit Exit) *job.Failure {
	said = strings.TrimRight(head(oneLine(said), maxSaidBytes), ". ")
	if said == "" {
		said = "borg did not say more"
	}
	fill := strings.NewReplacer(
		"{target}", clean(p.scratch()),
		"{name}", p.task.Repository.Name,
		"{repo}", "repository "+p.task.Repository.Name,
		"{location}", clean(p.task.Repository.Location),
		"{archive}", clean(p.archive()),
		"{hook}", p.task.hookName(),
		"{host}", p.task.Host,
		"{borg}", p.task.Version.Text,
		"{kind}", string(p.task.Kind),
		"{exit}", strconv.Itoa(exit.Code),
		"{signal}", signalName(exit),
		"{said}", said,
	)
	failure := job.Fail(why.code, "%s", fill.Replace(why.message)).WithHint("%s", fill.Replace(why.hint))
	failure.Retryable = failure.Retryable && !why.final
	return failure
}

// archive returns the name of the archive that the task is about.
func (p *Parser) archive() string { return p.task.archive() }

func (t Task) archive() string {
	switch spec := t.Spec.(type) {
	case job.RestoreSpec:
		return spec.Archive
	case job.DownloadSpec:
		return spec.Archive
	case job.ListSpec:
		return spec.Archive
	case job.RestoreTestSpec:
		return spec.Archive
	default:
		return t.Archive
	}
}
