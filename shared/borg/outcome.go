package borg

import (
	"fmt"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// class is what an exit means, whichever set of exit codes borg uses.
type class int

const (
	classOK class = iota
	classWarning
	classError
	classSignal // by force, maybe unseen
)

// class sorts an exit of a borg with or without modern exit codes. Borg 1.2 has
// 0, 1 and 2; modern codes are 3 to 99 for errors and 100 to 127 for warnings;
// a signal that borg handles is told as 128 and its number.
func (e Exit) class(modern bool) class {
	switch {
	case e.Lost, e.Signal != 0, e.Code >= 128:
		return classSignal
	case e.Code == 0:
		return classOK
	case e.Code == 1, modern && e.Code >= 100:
		return classWarning
	default:
		return classError
	}
}

// class also tells a warning from a crash of Python, which has the same code.
func (p *Parser) class(exit Exit) class {
	of := exit.class(p.task.Version.Modern())
	if _, crashed := p.facts.crashed(); crashed && of == classWarning {
		return classError
	}
	return of
}

// lived returns how long borg's process lived; of a lost one, until borg last
// told the time.
func (p *Parser) lived(exit Exit) time.Duration {
	switch {
	case exit.Duration > 0:
		return exit.Duration
	case exit.Lost && exit.Started.IsZero():
		return 0
	case exit.Lost:
		return max(p.at.Sub(exit.Started), 0)
	default:
		return max(exit.Ended.Sub(exit.Started), 0)
	}
}

func (e Exit) signal() syscall.Signal {
	if e.Signal == 0 && e.Code > 128 {
		return syscall.Signal(e.Code - 128)
	}
	return e.Signal
}

func signalName(e Exit) string {
	switch signal := e.signal(); signal {
	case 0:
		return fmt.Sprintf("exit code %d", e.Code)
	case syscall.SIGINT:
		return "an interrupt (SIGINT)"
	case syscall.SIGTERM:
		return "a request to end (SIGTERM)"
	case syscall.SIGHUP:
		return "the loss of its session (SIGHUP)"
	default:
		return fmt.Sprintf("signal %d (%s)", int(signal), signal)
	}
}

// outcome judges the attempt. One that was cancelled, or ran for too long, and
// ended by itself with a whole result before a signal took effect, is what it is.
func (p *Parser) outcome(exit Exit) job.Outcome {
	switch p.task.Kind {
	case job.BreakLock:
		return p.unlocked(exit)
	case job.Mount:
		return p.mounted(exit)
	case job.Umount:
		return p.unmounted(exit)
	case job.Verify:
		return p.verified(exit)
	case job.TestRestore:
		return p.testJudged(exit)
	}
	class := p.class(exit)
	switch {
	case p.abandoned(exit): // what borg makes of that differs, down to a good end
		if outcome, stopped := p.stopped(exit); stopped {
			return outcome
		}
		return job.Outcome{State: job.Failed, Failure: p.unheard(exit)}
	case p.shellOnly(exit):
		return job.Outcome{State: job.Failed, Failure: p.explain(noBorg, p.facts.spoken, exit)}
	case class != classOK && class != classWarning:
		return p.unwell(exit)
	}
	result := p.result(exit)
	if err := p.fill(result); err != nil {
		if outcome, stopped := p.stopped(exit); stopped {
			return outcome
		}
		why := unreadable
		if p.task.Kind == job.KeyExport {
			why = noKey
		}
		return job.Outcome{State: job.Failed, Failure: p.explain(why, err.Error(), exit)}
	}
	return p.judge(result, class, exit)
}

// shellOnly reports whether the shell that is to look around first could not run
// borg: its exit codes for that are warnings of a modern borg.
func (p *Parser) shellOnly(exit Exit) bool {
	spec, _ := p.task.Spec.(job.RestoreSpec)
	return (spec.KeepExisting || canaryOf(p.task) != nil || p.task.hooked()) && !exit.Lost && exit.Signal == 0 && (exit.Code == 126 || exit.Code == 127)
}

// unwell judges an end by error or by force.
func (p *Parser) unwell(exit Exit) job.Outcome {
	if outcome, saved := p.saved(exit); saved {
		return outcome
	}
	if outcome, stopped := p.stopped(exit); stopped {
		return outcome
	}
	return job.Outcome{State: job.Failed, Failure: p.broken(exit)}
}

// stopped judges a borg that was ended on purpose before its work was done: by
// a person, or because it ran for too long.
func (p *Parser) stopped(exit Exit) (outcome job.Outcome, stopped bool) {
	switch {
	case exit.Cancelled:
		return job.Outcome{State: job.Cancelled, Failure: p.explain(cancelled, "", exit)}, true
	case exit.Timeout > 0:
		why := timedOut
		if p.task.Kind == job.Backup {
			why.hint += "; the next backup goes on from borg's last checkpoint"
		}
		return job.Outcome{State: job.Failed, Failure: p.explain(why, exit.Timeout.String(), exit)}, true
	default:
		return outcome, false
	}
}

// saved judges a backup that did not end well, or unseen, after its archive was
// complete: borg prints its report when the archive is committed, and never
// otherwise. To call that failed would make another attempt, and a second
// archive. Because borg was not done, it is a warning at best.
func (p *Parser) saved(exit Exit) (outcome job.Outcome, saved bool) {
	result := p.result(exit)
	if p.task.Kind != job.Backup || p.fill(result) != nil || result.Archive == "" {
		return outcome, false
	}
	if judged := p.judge(result, classWarning, exit); judged.State == job.Failed {
		return judged, true
	}
	room := min(len(result.Warnings), job.MaxWarnings-1)
	result.WarningsOmitted += len(result.Warnings) - room
	what := "the archive is complete; after that: " + p.broken(exit).Message
	result.Warnings = append([]string{what}, result.Warnings[:room]...)
	return job.Outcome{State: job.Warning, Result: result}, true
}

// broken explains an end by error or by force.
func (p *Parser) broken(exit Exit) *job.Failure {
	switch {
	case exit.Lost && p.task.Kind == job.Backup:
		return p.explain(lostBackup, "", exit)
	case exit.Lost:
		return p.explain(lost, "", exit)
	case p.class(exit) == classError:
		return p.failure(exit)
	case exit.signal() == syscall.SIGKILL:
		return p.explain(killed, "", exit)
	default:
		return p.explain(ended, "", exit)
	}
}

// result returns what is common to all kinds, and what borg told as log lines.
func (p *Parser) result(exit Exit) *job.Result {
	f := &p.facts
	result := &job.Result{
		Duration:    p.lived(exit).Seconds(),
		BorgVersion: p.task.Version.Text,
		Warnings:    []string{},
		FreedBytes:  f.freed,
	}
	f.listed.fill(result)
	f.check.fill(result)
	if p.task.Kind == job.Init && p.class(exit) == classOK {
		return result // its warnings are standing advice to keep the key
	}
	for _, list := range []notes{f.errors, f.warnings} {
		room := min(len(list.texts), job.MaxWarnings-len(result.Warnings))
		result.Warnings = append(result.Warnings, list.texts[:room]...)
		result.WarningsOmitted += list.omitted + len(list.texts) - room
	}
	return result
}
