package borg

import (
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Item is one thing that borg said: exactly one of the fields is set.
type Item struct {
	Progress *job.Progress
	Line     *job.LogLine
}

// Exit is how borg's process ended.
type Exit struct {
	Code           int            // exit status; meaningless when Signal is set
	Signal         syscall.Signal // the signal that ended it, or 0
	Cancelled      bool           // a person asked for the end before it came
	Timeout        time.Duration  // the limit that it lived beyond, and was ended for; 0: none
	Lost           bool           // nobody saw how it ended: Code, Signal and Ended mean nothing
	Duration       time.Duration  // how long the process lived; 0 means Ended - Started
	Started, Ended time.Time
}

// maxStdoutBytes bounds the JSON that borg prints at its end: the list of some
// 200,000 archives.
const maxStdoutBytes = 64 << 20

// maxKeyBytes bounds a key that is given out; they have about a kilobyte.
const maxKeyBytes = 64 << 10

// maxLockBytes bounds what is read of who holds a lock.
const maxLockBytes = 256 << 10

// maxMessageLines bounds the lines that one message of borg's makes in a log.
// Of a longer one the end is kept, where a traceback names its cause.
const maxMessageLines = 100

// Parser reads what borg prints while it runs, and tells the outcome. It may
// be fed in chunks of any size: the items are the same. Memory is bounded
// whatever borg prints. A Parser is not safe for concurrent use.
type Parser struct {
	task     Task
	stderr   splitter
	stdout   []byte
	cut      bool // standard output was longer than maxStdoutBytes
	changes  difference
	progress progress
	facts    facts
	hooks    hooksSeen
	at       time.Time // newest time that borg told
	items    []Item    // made by the current call
}

// NewParser returns a parser for the output of the task's command.
func NewParser(task Task) *Parser {
	return &Parser{task: task, progress: progress{baseline: task.Baseline}, facts: newFacts(task)}
}

// Stderr takes the next bytes of standard error and returns what they
// complete. A line without a time of its own gets that of the line before it;
// before borg has told any time, At is zero, for the caller to fill in.
func (p *Parser) Stderr(chunk []byte) []Item {
	p.stderr.write(chunk, p.line)
	return p.take()
}

// Stdout takes the next bytes of standard output. What matters there is one
// JSON object, or for a key export the encrypted key, or who holds the lock,
// which [Parser.Finish] reads; for a diff, a line for each change.
func (p *Parser) Stdout(chunk []byte) {
	limit := maxStdoutBytes
	switch {
	case p.task.Kind == job.KeyExport:
		limit = maxKeyBytes
	case p.task.Kind == job.BreakLock, p.task.Kind == job.Mount, p.task.Kind == job.Umount:
		limit = maxLockBytes
	case p.task.Kind == job.Diff:
		p.changes.write(chunk)
		return
	case !printsJSON(p.task):
		return
	}
	room := limit - len(p.stdout)
	if len(chunk) > room {
		chunk, p.cut = chunk[:room], true
	}
	p.stdout = append(p.stdout, chunk...)
}

// Flush returns what an unterminated last line of standard error amounts to.
// Call it when the process is gone, before Finish.
func (p *Parser) Flush() []Item {
	p.stderr.flush(p.line)
	return p.take()
}

// Finish flushes, and returns the outcome of the attempt. It is called once.
func (p *Parser) Finish(exit Exit) job.Outcome {
	p.Flush()
	return p.withHooks(p.outcome(exit), exit)
}

func (p *Parser) take() []Item {
	items := p.items
	p.items = make([]Item, 0, len(items)) // as many are likely to come next
	return items
}

// line takes one whole line.
func (p *Parser) line(line []byte) {
	if p.hooked(line) {
		return
	}
	said, ok := quick(line)
	if !ok {
		var text string
		if text, said, ok = decode(line); text != "" {
			p.facts.plain(text)
			p.log(rawLevel(text), text)
		}
	}
	if ok {
		p.said(said)
	}
}

// said takes a message.
func (p *Parser) said(said message) {
	if at := moment(said.Time); !at.IsZero() {
		p.at = at
	}
	switch said.Type {
	case typeArchive, typePercent, typeMessage:
		if now := p.progress.update(said); now != nil {
			now.At = p.at
			p.items = append(p.items, Item{Progress: now})
		}
	case typeFile:
		p.log(job.LevelInfo, said.Status+" "+said.Path)
	case typeLog:
		if said.Name == loggerProgress {
			return // an inner progress bar in disguise
		}
		if p.vain(said) {
			return
		}
		p.facts.logged(said)
		p.log(p.levelOf(said), said.Message)
	default:
		p.facts.question(said)
		level := job.LevelWarning
		if said.MsgID == askedRepair && p.task.Kind == job.Check {
			level = job.LevelInfo // it is answered before it is put: whoever asked for the repair was told
		}
		p.log(level, said.Message)
	}
}

// askedRepair is borg's question whether a repair is meant.
const askedRepair = "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING"

// standing begins the advice that borg gives after each init, as warnings. That
// the key has to be kept safe is said elsewhere, until it is exported.
var standing = []string{"By default repositories initialized with this version", "IMPORTANT: you will need both KEY AND PASSPHRASE"}

// levelOf returns how much a log message matters.
func (p *Parser) levelOf(said message) job.Level {
	level := levelOf(said.LevelName)
	if level != job.LevelWarning || p.task.Kind != job.Init {
		return level
	}
	text := strings.TrimSpace(said.Message)
	if slices.ContainsFunc(standing, func(start string) bool { return strings.HasPrefix(text, start) }) {
		return job.LevelInfo
	}
	return level
}

// vain reports whether borg warns that a single file was not found, as it does
// also when it was.
func (p *Parser) vain(said message) bool {
	if _, test := p.task.Spec.(job.RestoreTestSpec); test {
		return unmatchedPath.MatchString(said.Message)
	}
	spec, ok := p.task.Spec.(job.DownloadSpec)
	return (ok && spec.Format == job.DownloadFile || p.task.fed()) && unmatchedPath.MatchString(said.Message)
}

// log appends a log line for every line of text.
func (p *Parser) log(level job.Level, text string) {
	if plain(text) {
		p.logLine(level, text)
		return
	}
	lines := strings.FieldsFunc(clean(text), func(r rune) bool { return r == '\n' })
	if over := len(lines) - maxMessageLines; over > 0 {
		lines = lines[over:]
	}
	for _, line := range lines {
		p.logLine(level, line)
	}
}

// logLine appends a line, unless it is blank.
func (p *Parser) logLine(level job.Level, line string) {
	if line = strings.TrimRight(line, " \t"); line != "" {
		line = head(line, job.MaxLogLineBytes)
		p.items = append(p.items, Item{Line: &job.LogLine{At: p.at, Level: level, Text: line}})
	}
}

func levelOf(name string) job.Level {
	switch name {
	case "DEBUG":
		return job.LevelDebug
	case "WARNING":
		return job.LevelWarning
	case "ERROR", "CRITICAL":
		return job.LevelError
	default:
		return job.LevelInfo
	}
}

// rawLevel judges a line that is not JSON: borg prints refusals of its
// arguments so, and Python its complaints.
func rawLevel(text string) job.Level {
	if usageError.MatchString(text) || strings.HasPrefix(text, "Invalid placeholder") {
		return job.LevelError
	}
	return job.LevelInfo
}
