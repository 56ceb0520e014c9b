package borg

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// verifyScript bounds how long a repository may take to answer.
//
//go:embed verify.sh
var verifyScript string

// How long a repository may take to answer, and how long of that for its lock.
const (
	verifyPatience = 2 * time.Minute
	verifyLockWait = 20 * time.Second
)

// timeUp is the exit code of timeout(1) when it ended borg.
const timeUp = 124

// Names of findings about a repository.
const (
	findRepository = "repository"
	findEncryption = "encryption"
)

var noAnswer = cause{code: job.Timeout, message: "{repo} did not answer {host} within {said}",
	hint: "see whether its server, or its disk, hangs: {location}"}

// patience shortens the wait for a lock where somebody waits for the answer.
func patience(task Task, env Environment) Environment {
	if task.Kind == job.Verify && (env.LockWait <= 0 || env.LockWait > verifyLockWait) {
		env.LockWait = verifyLockWait
	}
	return env
}

// verifyCommand wraps borg's own command. What is to be accepted may take its
// time: borg may build its cache.
func verifyCommand(task Task, spec job.VerifySpec, argv []string) []string {
	var what []string
	for word, asked := range map[string]bool{"moved": spec.AcceptMoved, "older": spec.AcceptOlder, "cache": spec.RebuildCache} {
		if asked {
			what = append(what, word)
		}
	}
	limit := verifyPatience
	if spec.AcceptMoved && !spec.AcceptOlder {
		limit = 0
	}
	words := "plain"
	if len(what) > 0 {
		words = strings.Join(slices.Sorted(slices.Values(what)), ",")
	}
	return append([]string{"/bin/sh", "-c", verifyScript, "verify", strconv.Itoa(int(limit.Seconds())), words, task.Repository.Location}, argv...)
}

// verifyVerb is borg's command that opens the repository. Only info asks for the
// cache as well, which remembers the repository's location on its own.
func verifyVerb(spec job.VerifySpec) string {
	if spec.AcceptMoved && !spec.AcceptOlder {
		return "info"
	}
	return "list"
}

// verifyOptions make borg list open the repository, with its lock and its key,
// and read the names of the archives: all that is to be proved. borg info would
// also build the cache, which takes long where a host has none.
func verifyOptions() []string { return []string{"--json"} }

// verified judges a verify job. Without a repository, that borg could be run is
// all there is; with one, what is wrong with it fails the job, and is a finding
// as well.
func (p *Parser) verified(exit Exit) job.Outcome {
	result := p.result(exit)
	if p.task.Repository.Location == "" && p.class(exit) == classOK {
		return job.Outcome{State: job.Succeeded, Result: result}
	}
	if outcome, stopped := p.stopped(exit); stopped {
		return outcome
	}
	failure := p.unverified(exit)
	if failure == nil {
		said, err := readReport(p.stdout)
		if err == nil && !p.cut {
			return p.readable(result, said)
		}
		failure = p.explain(unreadable, "", exit)
	}
	if p.task.Repository.Location != "" {
		result.Checks = []job.Finding{{Name: findRepository, Detail: failure.Message, Hint: failure.Hint}}
	}
	return job.Outcome{State: job.Failed, Result: result, Failure: failure}
}

// unverified returns why borg could not do what it was asked for, or nil.
func (p *Parser) unverified(exit Exit) *job.Failure {
	class := p.class(exit)
	switch {
	case class == classSignal:
		return p.broken(exit)
	case exit.Code == timeUp:
		return p.explain(noAnswer, verifyPatience.String(), exit)
	case exit.Code == 126, exit.Code == 127: // the shell's, and timeout's
		return p.explain(noBorg, p.facts.spoken, exit)
	case class == classError:
		return p.broken(exit)
	default:
		return nil
	}
}

// readable tells what was found in a repository that can be read.
func (p *Parser) readable(result *job.Result, said report) job.Outcome {
	detail := clean(p.task.Repository.Location)
	if said.Archives != nil {
		detail += fmt.Sprintf(": %d archives", len(said.Archives))
	}
	if n := len(said.Archives); n > 0 {
		detail += ", the newest is " + clean(said.Archives[n-1].Name)
		if at, ok := localTime(said.Archives[n-1].Start); ok {
			detail += " of " + at.Format("2006-01-02 15:04") + " UTC"
		}
	}
	result.Checks = []job.Finding{{Name: findRepository, Good: true, Detail: detail}}
	state := job.Succeeded
	is, registered := job.Encryption(clean(said.Encryption.Mode)), p.task.Repository.Encryption
	finding := job.Finding{Name: findEncryption, Good: is == registered, Detail: string(is)}
	if !finding.Good {
		state = job.Warning
		finding.Detail = fmt.Sprintf("borg says %s, registered is %s", is, registered)
		finding.Hint = fmt.Sprintf("register %s with the encryption that it has", p.task.Repository.Name)
	}
	result.Checks = append(result.Checks, finding)
	return job.Outcome{State: state, Result: result}
}
