package borg

import (
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// judge says what it amounts to that borg came to its end. Borg goes on after
// much that a person calls a failure, and says so in a warning at most; the
// result stays with such a failure, as it tells what was done all the same.
func (p *Parser) judge(result *job.Result, class class, exit Exit) job.Outcome {
	var failure *job.Failure
	switch spec := p.task.Spec.(type) {
	case job.CheckSpec:
		return p.checked(result, class, exit)
	case job.DeleteSpec:
		return p.deleted(result, class, exit)
	case job.DownloadSpec:
		return p.downloaded(result, spec, class, exit)
	case job.BackupSpec:
		failure = p.emptyBackup(result, ownFiles(spec), exit)
		if failure == nil && result.NFiles <= ownFiles(spec) && class == classOK && chooses(spec) {
			return warned(result, "there is no file in the archive: see whether the patterns, or the script, leave anything")
		}
	case job.RestoreSpec:
		if p.task.fed() {
			return p.fedWell(result, spec, class, exit)
		}
		failure = p.halfRestored(spec, exit)
		if failure == nil && result.OriginalSize == 0 && class == classOK && spec.StripComponents > 0 {
			return warned(result, "nothing was restored but empty files, if at all: see whether strip_components leaves anything of the paths")
		}
	case job.DiffSpec:
		if len(spec.Paths) > 0 && p.facts.unmatched >= len(spec.Paths) {
			failure = p.explain(notCompared, p.facts.warnings.texts[0], exit)
		}
	}
	switch {
	case failure != nil:
		return job.Outcome{State: job.Failed, Result: result, Failure: failure}
	case class == classOK:
		return job.Outcome{State: job.Succeeded, Result: result}
	default:
		return job.Outcome{State: job.Warning, Result: result}
	}
}

// warned returns the outcome of a job that brought its result, with something
// that a person has to know of first.
func warned(result *job.Result, what string) job.Outcome {
	room := min(len(result.Warnings), job.MaxWarnings-1)
	result.WarningsOmitted += len(result.Warnings) - room
	result.Warnings = append([]string{what}, result.Warnings[:room]...)
	return job.Outcome{State: job.Warning, Result: result}
}

// chooses reports whether a backup may leave out all that its paths have.
func chooses(spec job.BackupSpec) bool {
	return spec.PathsFrom != "" || len(spec.Exclude)+len(spec.ExcludeFrom)+len(spec.Patterns)+len(spec.PatternsFrom) > 0
}

// emptyBackup returns why a backup of nothing must not count as one; own is how
// many files are in it all the same.
func (p *Parser) emptyBackup(result *job.Result, own int64, exit Exit) *job.Failure {
	nothing, missing := p.facts.nothingRead()
	if !nothing || result.NFiles > own {
		return nil
	}
	why := pathsDenied
	if missing {
		why = pathsMissing
	}
	return p.explain(why, p.facts.warnings.texts[0], exit) // there is one for every path
}

// halfRestored returns why a restore must not count as one although borg went
// on to its end: it warns of a file that it could not write, and of a path that
// the archive does not have, and takes the next one. With files that are kept, a
// path that is there already looks like one that the archive does not have.
func (p *Parser) halfRestored(spec job.RestoreSpec, exit Exit) *job.Failure {
	f := &p.facts
	switch {
	case len(spec.Paths) > 0 && f.unmatched >= len(spec.Paths) && !spec.KeepExisting:
		return p.explain(notInArchive, f.warnings.texts[0], exit)
	case f.spoilt != nil:
		return p.explain(f.spoilt.cause, f.spoilt.said, exit)
	case f.denied != "" && p.progress.numbers.OriginalSize == 0:
		return p.explain(targetDenied, f.denied, exit)
	default:
		return nil
	}
}

// deleted judges a delete. For borg 1.2 it is none of its business whether an
// archive was there.
func (p *Parser) deleted(result *job.Result, class class, exit Exit) job.Outcome {
	f := &p.facts
	switch {
	case len(result.Deleted) == 0 && f.listed.missing > 0:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(noSuchArchives, f.warnings.texts[0], exit)}
	case len(result.Deleted) == 0 && class == classOK:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(noSuchArchives, "no name matches the glob", exit)}
	case f.listed.missing > 0 || class == classWarning:
		return job.Outcome{State: job.Warning, Result: result}
	default:
		return job.Outcome{State: job.Succeeded, Result: result}
	}
}

// downloaded judges a download. Of a single file borg always warns that its
// pattern has not matched; that it was listed says that it is there.
func (p *Parser) downloaded(result *job.Result, spec job.DownloadSpec, class class, exit Exit) job.Outcome {
	f := &p.facts
	missing := f.unmatched > 0
	if spec.Format == job.DownloadFile {
		missing = f.listed.files == 0
	}
	switch {
	case missing:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(notDownloaded, clean(spec.Path), exit)}
	case f.spoilt != nil:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(f.spoilt.cause, f.spoilt.said, exit)}
	case spec.Format == job.DownloadFile && result.OriginalSize == 0:
		return warned(result, "nothing came: the file is empty, or it is a directory, a link, or a further name of another file, which come as tar")
	case class == classOK || len(result.Warnings) == 0:
		return job.Outcome{State: job.Succeeded, Result: result}
	default:
		return job.Outcome{State: job.Warning, Result: result}
	}
}

// abandoned reports whether borg says that whoever read a stream went away before
// its end. Borg list passes over that: whoever reads has to say it.
func (p *Parser) abandoned(exit Exit) bool {
	if !job.Streams(p.task.Spec) {
		return false
	}
	trace := p.facts.trace
	return p.class(exit) == classError && strings.HasPrefix(lastLine(trace), "BrokenPipeError") && !strings.Contains(trace, "borg/remote.py")
}

// unheard is the failure of a stream without a reader. A listing is begun anew by
// itself; whoever wanted a download has what came so far, and asks for the rest.
func (p *Parser) unheard(exit Exit) *job.Failure {
	failure := p.explain(noReader, "", exit)
	failure.Retryable = p.task.Kind == job.List
	return failure
}
