package borg

import (
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of what is remembered of borg's words for the outcome.
const (
	maxFactBytes  = 1 << 10 // one warning or error
	maxErrors     = 16
	maxRemote     = 32 // the newest: ssh's complaint comes last
	maxTraceBytes = 8 << 10
)

// facts is what matters for the outcome, gathered while borg runs.
type facts struct {
	warnings notes    // what borg warned of, without init's standing advice
	errors   notes    // what borg called an error, without tracebacks
	causes   []string // msgids of errors and of refused questions, in order
	trace    string   // the end of the last traceback
	remote   []string // what ssh, or the server's shell, said
	refused  string   // borg's plain-text complaint about its arguments
	spoken   string   // the last line that was not JSON
	crashing bool     // Python's own traceback has begun
	crash    string   // the end of it
	diskFull bool     // borg cleaned up after a full disk

	kind   job.Kind
	roots  map[string]rootState // backup: the paths asked for
	script bool                 // backup: a script brings the paths, or the content
	hook   string               // backup: how the script failed
	unread map[rootState]int    // backup: paths of a script that could not be read
	listed listed               // prune, delete, download: what borg names
	check  damage               // check
	freed  *int64               // compact

	unmatched int      // restore, download, diff: paths that the archive does not have
	denied    string   // restore: the first file that could not be written for lack of rights
	spoilt    *spoiled // restore: why files are missing or wrong for good
}

// spoiled is what makes a restore useless, and borg's words about it.
type spoiled struct {
	cause cause
	said  string
}

// rootState says whether a path that was asked for could be read at all.
type rootState int

const (
	rootFine rootState = iota
	rootMissing
	rootDenied
)

// notes is a list of the first few texts, and how many more there were.
type notes struct {
	texts   []string
	omitted int
}

func (n *notes) add(text string, limit int) {
	if len(n.texts) >= limit {
		n.omitted++
		return
	}
	n.texts = append(n.texts, head(strings.TrimSpace(clean(text)), maxFactBytes))
}

func newFacts(task Task) facts {
	f := facts{kind: task.Kind, script: task.Hook != ""}
	if task.fed() {
		f.kind = job.Download // of one file
	}
	backup, ok := task.Spec.(job.BackupSpec)
	if !ok {
		return f
	}
	f.unread = make(map[rootState]int)
	f.roots = make(map[string]rootState, len(backup.Paths))
	for _, root := range backup.Paths {
		f.roots[path.Clean(root)] = rootFine
	}
	return f
}

var usageError = regexp.MustCompile(`^borg(?: [a-z-]+)*: error: (.+)$`)

// plain takes a line that is not JSON.
func (f *facts) plain(text string) {
	// Python also prints tracebacks that it ignores.
	if strings.HasPrefix(text, "Traceback (most recent call last)") && !strings.HasPrefix(f.spoken, "Exception ignored") {
		f.crashing = true
	} else if f.crashing {
		f.crash = head(clean(text), maxFactBytes)
	}
	f.spoken = head(text, maxFactBytes)
	if match := usageError.FindStringSubmatch(text); match != nil {
		f.refused = head(clean(match[1]), maxFactBytes)
	}
	if strings.HasPrefix(text, "Invalid placeholder") {
		f.refused = head(clean(text), maxFactBytes)
	}
}

// question takes a question of borg's, which nobody answers.
func (f *facts) question(said message) {
	if strings.HasPrefix(said.Type, "question_accepted_false") || strings.HasPrefix(said.Type, "question_accepted_default") {
		f.cause(said.MsgID)
	}
}

// logged takes a log message.
func (f *facts) logged(said message) {
	switch {
	case said.Name == loggerRoot && strings.HasPrefix(said.Message, remotePrefix):
		f.remote = append(f.remote, head(clean(said.Message[len(remotePrefix):]), maxFactBytes))
		f.remote = f.remote[max(0, len(f.remote)-maxRemote):]
	case said.Name == loggerList:
		f.listed.add(f.kind, said.Message)
	default:
		if f.kind == job.Check {
			f.check.add(said)
		}
		f.logs(said)
	}
}

// logs takes a log message of a level.
func (f *facts) logs(said message) {
	switch {
	case levelOf(said.LevelName) == job.LevelWarning:
		f.warned(said.Message)
	case levelOf(said.LevelName) == job.LevelError:
		f.erred(said)
	default:
		f.compacted(said.Message)
	}
}

func (f *facts) warned(text string) {
	f.warnings.add(text, job.MaxWarnings)
	if strings.Contains(text, "No space left on device, cleaning up") {
		f.diskFull = true
	}
	switch f.kind {
	case job.Backup:
		f.root(text)
	case job.Restore, job.Download, job.Diff, job.TestRestore:
		f.unrestored(text)
	case job.Delete:
		f.listed.undeleted(text)
	}
}

var unmatchedPath = regexp.MustCompile(`(?s)^Include pattern '.*' never matched\.$`)

// unrestored notes a warning about something that a restore, a download or a
// diff does not bring.
func (f *facts) unrestored(text string) {
	if unmatchedPath.MatchString(text) {
		f.unmatched++
		return
	}
	if f.denied == "" && (strings.Contains(text, "[Errno 13]") || strings.Contains(text, "[Errno 1]")) {
		f.denied = head(clean(text), maxFactBytes)
	}
	for _, sign := range restoreSigns {
		if f.spoilt == nil && sign.in(text) {
			f.spoilt = &spoiled{cause: sign.cause, said: head(clean(text), maxFactBytes)}
		}
	}
}

// root notes a warning "PATH: [Errno 2] …" about a path that was asked for.
// The path may itself contain the separator.
func (f *facts) root(text string) {
	state := rootMissing
	if strings.Contains(text, "[Errno 13]") {
		state = rootDenied
	} else if !strings.Contains(text, "[Errno 2]") {
		return
	}
	f.unread[state]++
	for end := 0; ; end++ {
		next := strings.Index(text[end:], ": ")
		if next < 0 {
			return
		}
		end += next
		if _, asked := f.roots[text[:end]]; asked {
			f.roots[text[:end]] = state
			return
		}
	}
}

func (f *facts) erred(said message) {
	f.cause(said.MsgID)
	if start := strings.Index(said.Message, "Traceback (most recent call last)"); start >= 0 {
		f.trace = tail(strings.TrimSpace(clean(said.Message)), maxTraceBytes)
		if start == 0 {
			return
		}
		said.Message = said.Message[:start]
	}
	f.errors.add(said.Message, maxErrors)
	if f.script && f.hook == "" && failedScript.MatchString(said.Message) {
		f.hook = head(clean(said.Message), maxFactBytes)
		if f.spoken != "" { // the script's own words
			f.hook += ": " + clean(f.spoken)
		}
	}
}

// failedScript is how borg tells that a command of ours failed.
var failedScript = regexp.MustCompile(`^(?:Failed to execute command|Command .+ exited with status -?[0-9]+$)`)

func (f *facts) cause(msgID string) {
	if msgID != "" && len(f.causes) < maxErrors {
		f.causes = append(f.causes, head(clean(msgID), maxFactBytes))
	}
}

var freedLine = regexp.MustCompile(`compaction freed about (-?[0-9]+(?:\.[0-9]+)?) ([kMGTPE]?)B repository space`)

func (f *facts) compacted(text string) {
	match := freedLine.FindStringSubmatch(text)
	if match == nil {
		return
	}
	amount, err := strconv.ParseFloat(match[1], 64)
	power := strings.Index(" kMGTPE", match[2])
	if match[2] == "" {
		power = 0
	}
	bytes := math.Round(amount * math.Pow(1000, float64(power)))
	if err != nil || bytes > math.MaxInt64/2 {
		return
	}
	whole := max(int64(bytes), 0)
	f.freed = &whole
}

// nothingRead reports whether not one of the paths asked for could be read, and
// whether one of them is missing rather than forbidden. Of the paths that a
// script names only those that could not be read are known.
func (f *facts) nothingRead() (nothing, missing bool) {
	if f.script {
		missing = f.unread[rootMissing] > 0
		return missing || f.unread[rootDenied] > 0, missing
	}
	for _, state := range f.roots {
		if state == rootFine {
			return false, false
		}
		missing = missing || state == rootMissing
	}
	return len(f.roots) > 0, missing
}

// crashed returns the last line of Python's traceback if Python gave up before
// borg could say anything: its exit code, 1, is the one of borg's warnings.
func (f *facts) crashed() (last string, crashed bool) {
	silent := len(f.warnings.texts)+len(f.errors.texts)+len(f.remote) == 0
	return f.crash, silent && f.crash != ""
}
