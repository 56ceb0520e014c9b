package borg

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Scripts of ours that run hooks beside borg: they are shell scripts for the
// reasons of lockScript. Paths of hooks are their arguments.
var (
	//go:embed hook.sh
	hookLibrary string
	//go:embed around.sh
	aroundMain string
	//go:embed feed.sh
	feedMain string

	aroundScript = hookLibrary + aroundMain
	feedScript   = hookLibrary + feedMain
)

// Hooks are the paths of scripts on the host that run around a backup, as the
// host's policy has resolved them.
type Hooks struct {
	Before, After, OnFailure []string
}

// none reports whether there is none.
func (h Hooks) none() bool { return len(h.Before)+len(h.After)+len(h.OnFailure) == 0 }

// fed reports whether a task hands a file of an archive to a hook.
func (t Task) fed() bool {
	spec, ok := t.Spec.(job.RestoreSpec)
	return ok && spec.ContentTo != ""
}

// hooked reports whether a script of ours runs hooks beside borg.
func (t Task) hooked() bool { return !t.Hooks.none() || t.fed() }

// How long the hooks that are left may take once a job was cancelled: what
// around.sh and feed.sh give each of them, and the time to end borg before.
const (
	hookAftermath = 45 * time.Second
	borgAftermath = 45 * time.Second
)

// Aftermath returns how long after a request to end the task's own script has to
// be left alone, for the hooks that run whatever happens; 0: it runs none.
func (t Task) Aftermath() time.Duration {
	if t.Hooks.none() {
		return 0
	}
	return borgAftermath + time.Duration(len(t.Hooks.After)+len(t.Hooks.OnFailure))*hookAftermath
}

// hookCommand wraps what is run for a task in the script that runs its hooks.
func hookCommand(task Task, argv []string) []string {
	spec, _ := task.Spec.(job.BackupSpec)
	switch {
	case task.fed():
		return append([]string{"/bin/sh", "-c", feedScript, "hook", task.Hook}, argv...)
	case task.Hooks.none():
		return argv
	}
	limit := job.DefaultHookTimeout
	if spec.Hooks != nil && spec.Hooks.Timeout > 0 {
		limit = spec.Hooks.Timeout
	}
	wrapped := []string{"/bin/sh", "-c", aroundScript, "hooks", strconv.Itoa(limit)}
	for _, phase := range []struct {
		name  string
		paths []string
	}{{phaseBefore, task.Hooks.Before}, {phaseFailure, task.Hooks.OnFailure}, {phaseAfter, task.Hooks.After}} {
		for _, script := range phase.paths {
			wrapped = append(wrapped, phase.name, script)
		}
	}
	return append(append(wrapped, "--"), argv...)
}

// hookVariables are what a hook gets to know of its job. The script adds which
// hook it is, when it runs, and what became of the backup.
func hookVariables(task Task) []string {
	if task.Hook == "" && task.Hooks.none() {
		return nil
	}
	environ := []string{
		"BORGFLEET_JOB=" + string(task.Job), "BORGFLEET_PLAN=" + task.Plan, "BORGFLEET_RUN=" + task.Run,
		"BORGFLEET_HOST=" + task.Host, "BORGFLEET_REPOSITORY=" + task.Repository.Name, "BORGFLEET_ARCHIVE=" + task.archive(),
	}
	if spec, ok := task.Spec.(job.BackupSpec); ok && task.Hook != "" {
		phase := phaseContent
		if spec.PathsFrom != "" {
			phase = phasePaths
		}
		environ = append(environ, "BORGFLEET_HOOK="+path.Base(task.Hook), "BORGFLEET_PHASE="+phase)
	}
	return environ
}

// Phases of hooks, as they are told to them.
const (
	phaseBefore  = "before"
	phaseAfter   = "after"
	phaseFailure = "failure"
	phaseContent = "content"
	phasePaths   = "paths"
)

// checkFed refuses a task that could run a hook with something else than one
// file.
func checkFed(task Task, spec job.RestoreSpec) error {
	if len(spec.Paths) != 1 || task.Hook == "" {
		return errors.New("neither one path nor the path of the hook")
	}
	return nil
}

// hookMark begins a line of a script of ours about its hooks.
const hookMark = 0x1e

// hookEnd is how a hook ended.
type hookEnd struct {
	phase, name string
	code        int
	last        string // line that it printed
	late        bool   // it was ended at its time limit
	ended       bool   // because the job was
}

// hooksSeen is what the scripts tell of hooks.
type hooksSeen struct {
	script string // by which word its lines begin, which it says before anybody else says anything
	token  string // of the script whose hook prints now; "": none does
	now    hookEnd
	ended  []hookEnd
}

// hooked takes a line if it is one of a hook, or about one.
func (p *Parser) hooked(line []byte) bool {
	if !p.task.hooked() {
		return false
	}
	h := &p.hooks
	if len(line) > 0 && line[0] == hookMark {
		words := strings.Fields(clean(string(line[1:])))
		if h.script == "" && len(words) > 1 {
			h.script = words[0]
		}
		if len(words) > 1 && words[0] == h.script {
			p.hookTold(words[0], words[1], words[2:])
			return true
		}
	}
	if h.token == "" {
		return false
	}
	h.now.last = head(clean(string(bytes.TrimSpace(line))), maxSaidBytes)
	p.log(job.LevelInfo, h.now.name+": "+string(line))
	return true
}

// hookTold takes what a script tells of a hook.
func (p *Parser) hookTold(token, verb string, words []string) {
	h := &p.hooks
	p.hookTime(verb, words)
	switch {
	case verb == "begin" && len(words) == 3 && h.token == "":
		h.token, h.now = token, hookEnd{phase: words[1], name: words[2]}
		p.log(job.LevelInfo, fmt.Sprintf("hook %s (%s)", h.now.name, h.now.phase))
	case h.token == "":
	case verb == "limit":
		h.now.late = true
	case verb == "ended":
		h.now.ended = true
	case verb == "held":
		p.log(job.LevelWarning, h.now.name+": it left something behind that holds its output, which is not read any more")
	case verb == "more" && len(words) == 1:
		p.log(job.LevelWarning, h.now.name+": it printed "+words[0]+" bytes more, of which the end follows")
	case verb == "end" && len(words) == 2:
		h.now.code, _ = strconv.Atoi(words[1])
		if h.now.code != 0 {
			p.log(h.now.level(), "hook "+h.now.how()) // its words are there already
		}
		h.ended, h.token = append(h.ended, h.now), ""
	}
}

// hookTime sets the time of what follows: borg may not have told any yet.
func (p *Parser) hookTime(verb string, words []string) {
	if verb != "begin" && verb != "end" || len(words) == 0 {
		return
	}
	seconds, err := strconv.ParseInt(words[0], 10, 64)
	if at := moment(float64(seconds)); err == nil && at.After(p.at) {
		p.at = at
	}
}

func (h hookEnd) level() job.Level {
	switch {
	case h.phase == phaseBefore && h.code == job.SkipExit:
		return job.LevelInfo
	case h.phase == phaseBefore, h.phase == phaseContent:
		return job.LevelError
	default:
		return job.LevelWarning
	}
}

// how says how the hook ended.
func (h hookEnd) how() string {
	switch {
	case h.ended:
		return h.name + " was ended, as the job was"
	case h.late:
		return h.name + " ran for longer than its time limit, and was ended"
	case h.code > 128:
		return fmt.Sprintf("%s was ended by signal %d", h.name, h.code-128)
	default:
		return fmt.Sprintf("%s ended with exit code %d", h.name, h.code)
	}
}

// words are the last that the hook said, to be put behind a sentence.
func (h hookEnd) words() string {
	if h.last == "" {
		return ""
	}
	return ": " + h.last
}

// failed reports whether the hook did not do its work.
func (h hookEnd) failed() bool { return h.code != 0 || h.late }
