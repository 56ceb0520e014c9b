package borg

import (
	"bufio"
	"bytes"
	_ "embed"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// lockScript finds out who holds a local repository's lock, and runs borg
// break-lock when it may. It is a shell script, because it has to run wherever
// borg does. What it is about comes as arguments; it is never part of its text.
//
//go:embed lock.sh
var lockScript string

// unseenScript is the dry run for a repository on a server.
const unseenScript = `printf '%s\n' "$1" >&2; echo unseen`

// Verdicts of the scripts: the last line of their standard output.
const (
	lockMissing = "missing" // there is no repository
	lockDenied  = "denied"  // it may not be looked at
	lockFree    = "free"    // nobody holds the lock
	lockTold    = "told"    // a dry run
	lockHeld    = "held"    // and not broken: a holder may live
	lockBroken  = "broken"
	lockUnseen  = "unseen" // a dry run that could not see
)

// maxLocks bounds the holders in a result.
const maxLocks = 100

// lockName is what the script calls itself in an error of the shell.
const lockName = "break-lock"

func remote(repository job.Repository) bool { return strings.HasPrefix(repository.Location, "ssh://") }

// lockCommand returns what is run for a break-lock job, where argv is borg's own
// command for it. The lock of a repository on a server is held by a process of
// that server, about which this host cannot know anything.
func lockCommand(task Task, spec job.BreakLockSpec, argv []string) ([]string, error) {
	mode := "break"
	switch {
	case remote(task.Repository) && spec.DryRun:
		return []string{"/bin/sh", "-c", unseenScript, lockName, unseenLock(task)}, nil
	case remote(task.Repository) && !spec.Force:
		failure := job.Fail(job.RepositoryLocked, "%s, so its lock is not broken without force", unseenLock(task)).
			WithHint("the borg on the server removes by itself what a dead process of the server left, at the next access; if the lock stays, look for borg serve on the server, and break it with force when there is none")
		failure.Retryable = false
		return nil, failure
	case remote(task.Repository):
		return argv, nil
	case spec.DryRun:
		mode = "look"
	case spec.Force:
		mode = "force"
	}
	return append([]string{"/bin/sh", "-c", lockScript, lockName, mode, task.Repository.Location}, argv...), nil
}

func unseenLock(task Task) string {
	return "who holds the lock of repository " + task.Repository.Name + " cannot be seen from " + task.Host + ": it would be a process of the repository's server"
}

// readLocks reads what the script tells. Lines that it does not know are
// passed over.
func readLocks(stdout []byte) (locks []job.Lock, verdict string) {
	lines := bufio.NewScanner(bytes.NewReader(stdout))
	for lines.Scan() {
		fields := strings.Fields(clean(lines.Text()))
		switch {
		case len(fields) == 1:
			verdict = fields[0]
		case len(fields) == 5 && fields[0] == "lock" && len(locks) < maxLocks:
			pid, _ := strconv.Atoi(fields[3]) // 0: it cannot be read
			locks = append(locks, job.Lock{
				Holder: head(fields[4], maxWordsBytes), PID: pid,
				Exclusive: fields[1] == "exclusive", Process: job.Vitality(fields[2]),
			})
		}
	}
	return locks, verdict
}

// unlocked judges a break-lock job.
func (p *Parser) unlocked(exit Exit) job.Outcome {
	locks, verdict := readLocks(p.stdout)
	result := p.result(exit)
	result.Locks, result.Broken = locks, verdict == lockBroken
	switch verdict {
	case lockFree, lockTold, lockBroken:
		return job.Outcome{State: job.Succeeded, Result: result}
	case lockUnseen:
		result.Warnings = append(result.Warnings, unseenLock(p.task))
		return job.Outcome{State: job.Succeeded, Result: result}
	case lockHeld:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.held(locks)}
	case lockMissing:
		return job.Outcome{State: job.Failed, Failure: p.explain(causes["DoesNotExist"], "", exit)}
	case lockDenied:
		return job.Outcome{State: job.Failed, Failure: p.explain(causes["PathPermissionDenied"], "", exit)}
	}
	if p.class(exit) == classOK && remote(p.task.Repository) {
		result.Broken = true
		return job.Outcome{State: job.Succeeded, Result: result}
	}
	if p.class(exit) == classOK {
		return job.Outcome{State: job.Failed, Failure: p.explain(unreadable, "", exit)}
	}
	if (exit.Code == 126 || exit.Code == 127) && !exit.Lost {
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(noBorg, p.facts.spoken, exit)}
	}
	outcome := p.unwell(exit)
	outcome.Result = result
	return outcome
}

// held is the failure that names who may still need the lock.
func (p *Parser) held(locks []job.Lock) *job.Failure {
	if len(locks) == 0 {
		return p.explain(lockChanges, "", Exit{})
	}
	const most = 3
	var words []string
	for _, lock := range locks[:min(most, len(locks))] {
		words = append(words, lock.String())
	}
	if more := len(locks) - most; more > 0 {
		words = append(words, strconv.Itoa(more)+" more")
	}
	return p.explain(lockStays, strings.Join(words, "; "), Exit{})
}
