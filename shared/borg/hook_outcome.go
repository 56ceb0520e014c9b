package borg

import (
	"cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

// withHooks adds what hooks did to what became of borg.
func (p *Parser) withHooks(o job.Outcome, exit Exit) job.Outcome {
	if !p.task.hooked() || exit.Lost {
		return o
	}
	if p.hooks.token != "" && p.class(exit) == classSignal {
		return p.hookBroke(o, exit)
	}
	for _, end := range p.hooks.ended {
		switch {
		case end.phase == phaseBefore && end.failed():
			return p.notRun(end, exit)
		case end.phase == phaseContent:
			return p.hookFed(o, end, exit)
		}
	}
	for _, end := range p.hooks.ended {
		if end.failed() {
			o = warnedOf(o, "the hook "+end.how()+" ("+end.phase+")"+end.words())
		}
	}
	return o
}

// warnedOf adds a warning to an outcome. One without a result has its failure to
// tell of, and the hook is in the log.
func warnedOf(o job.Outcome, what string) job.Outcome {
	if o.Result == nil {
		return o
	}
	result := *o.Result
	if len(result.Warnings) >= job.MaxWarnings {
		result.WarningsOmitted++
	} else {
		result.Warnings = append(append([]string{}, result.Warnings...), what)
	}
	o.Result = &result
	if o.State == job.Succeeded {
		o.State = job.Warning
	}
	return o
}

// notRun is the outcome of a backup whose hook failed before it, or asked to
// leave it out.
func (p *Parser) notRun(end hookEnd, exit Exit) job.Outcome {
	if outcome, stopped := p.stopped(exit); stopped {
		return outcome
	}
	host := p.task.Host
	if end.code == job.SkipExit && !end.late {
		return job.Outcome{State: job.Cancelled, Failure: job.Fail(job.Skipped, "the hook %s on %s asked to leave this backup out: %s",
			end.name, host, cmp.Or(end.last, "it did not say why")).
			WithHint("it ended with exit code %d, which asks for that; see the job's log", job.SkipExit)}
	}
	return job.Outcome{State: job.Failed, Failure: job.Fail(job.HookFailed, "on %s the hook %s, so nothing was backed up%s", host, end.how(), end.words()).
		WithHint("see its words in the log, and run it by hand on %s as the user that runs borg; it must end with exit code 0", host)}
}

// hookBroke judges a job whose own script was killed while a hook ran: by a hook
// that kills more than itself, for example.
func (p *Parser) hookBroke(o job.Outcome, exit Exit) job.Outcome {
	if outcome, stopped := p.stopped(exit); stopped {
		return outcome
	}
	now, host := p.hooks.now, p.task.Host
	if o.Result != nil {
		return warnedOf(o, "the job was killed while the hook "+now.name+" ran ("+now.phase+")")
	}
	return job.Outcome{State: job.Failed, Failure: job.Fail(job.HookFailed, "the job was killed on %s while the hook %s ran", host, now.name).
		WithHint("a hook that ends other processes by name may have ended its own job; see the log")}
}

// hookFed judges a restore into a hook: both have to end well. A hook that we
// ended tells nothing; one that ended by itself is why borg could not go on.
func (p *Parser) hookFed(o job.Outcome, end hookEnd, exit Exit) job.Outcome {
	if outcome, stopped := p.stopped(exit); stopped {
		return outcome
	}
	host := p.task.Host
	class := p.class(exit)
	broken := class == classError || class == classSignal
	switch {
	case end.ended && broken:
		return o
	case end.failed():
		return job.Outcome{State: job.Failed, Result: o.Result, Failure: job.Fail(job.HookFailed, "on %s the hook %s, and has restored nothing, or a part%s", host, end.how(), end.words()).
			WithHint("see its words in the log, and look at what it restores into before you try again")}
	case broken:
		return job.Outcome{State: job.Failed, Result: o.Result, Failure: job.Fail(job.HookFailed, "the hook %s on %s ended before it had read the whole file", end.name, host).
			WithHint("a hook for content_to reads its standard input to the end")}
	}
	return o
}

// fedWell judges a restore into a hook by what borg said, as a download of one
// file.
func (p *Parser) fedWell(result *job.Result, spec job.RestoreSpec, class class, exit Exit) job.Outcome {
	f := &p.facts
	switch {
	case f.listed.files == 0:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(notInArchive, clean(spec.Paths[0]), exit)}
	case f.spoilt != nil:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(f.spoilt.cause, f.spoilt.said, exit)}
	case len(p.hooks.ended) == 0:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(nothingToFeed, clean(spec.Paths[0]), exit)}
	case class == classOK || len(result.Warnings) == 0:
		return job.Outcome{State: job.Succeeded, Result: result}
	default:
		return job.Outcome{State: job.Warning, Result: result}
	}
}

// nothingToFeed is for a file without content: no hook is run with nothing.
var nothingToFeed = cause{code: job.PathMissing, message: "there is no content at {said} in archive {archive}, so the hook was not run",
	hint: "give the path of a file, as the archive has it; of a directory, a link, or a further name of another file nothing comes"}
