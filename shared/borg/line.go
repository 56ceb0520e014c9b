package borg

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// maxLineBytes bounds one line of borg's output; what follows is dropped. A
// traceback or a question is far below it.
const maxLineBytes = 1 << 20

// splitter cuts a stream into lines, whichever way the stream is chunked. A
// carriage return ends a line as well: borg puts one between a progress bar
// and the JSON that follows. Blank lines do not come out.
type splitter struct{ partial []byte }

// write calls emit for every line that chunk completes. The line is valid
// only during the call.
func (s *splitter) write(chunk []byte, emit func(line []byte)) {
	for {
		end := bytes.IndexByte(chunk, '\n')
		if end < 0 {
			s.returns(chunk, emit)
			return
		}
		s.returns(chunk[:end], emit)
		s.flush(emit)
		chunk = chunk[end+1:]
	}
}

// returns takes what has no line feed in it.
func (s *splitter) returns(part []byte, emit func(line []byte)) {
	for {
		end := bytes.IndexByte(part, '\r')
		if end < 0 {
			s.keep(part)
			return
		}
		s.keep(part[:end])
		s.flush(emit)
		part = part[end+1:]
	}
}

// flush calls emit for the line that is there, even if nothing ended it.
func (s *splitter) flush(emit func(line []byte)) {
	line := bytes.TrimSpace(s.partial)
	if len(line) > 0 {
		emit(line)
	}
	s.partial = s.partial[:0]
	if cap(s.partial) > maxLineBytes/16 {
		s.partial = nil // one huge line is no reason to keep its room for ever
	}
}

func (s *splitter) keep(part []byte) {
	s.partial = append(s.partial, part[:min(len(part), maxLineBytes-len(s.partial))]...)
}

// Types of messages that borg prints with --log-json.
const (
	typeArchive  = "archive_progress"
	typePercent  = "progress_percent"
	typeMessage  = "progress_message"
	typeLog      = "log_message"
	typeFile     = "file_status"
	typeQuestion = "question_" // and what follows: prompt, env_answer, …
)

// Names of borg's loggers that carry something other than log lines.
const (
	loggerProgress = "borg.output.progress" // a second progress bar, as plain text
	loggerList     = "borg.output.list"     // what prune keeps and deletes
	loggerRoot     = "root"                 // with "Remote: ": what ssh or the server said
)

const remotePrefix = "Remote: "

// message is one JSON line of borg's, of any type.
type message struct {
	Type      string  `json:"type"`
	Time      float64 `json:"time"` // seconds since 1970; absent in questions
	Name      string  `json:"name"`
	LevelName string  `json:"levelname"`
	Message   string  `json:"message"`
	MsgID     string  `json:"msgid"`
	Finished  bool    `json:"finished"`
	Status    string  `json:"status"`
	Path      string  `json:"path"`

	Operation int64    `json:"operation"` // counts per process: not unique over ssh
	Current   int64    `json:"current"`
	Total     int64    `json:"total"`
	Info      []string `json:"info"` // extract: the file's path

	OriginalSize     int64 `json:"original_size"`
	CompressedSize   int64 `json:"compressed_size"`
	DeduplicatedSize int64 `json:"deduplicated_size"`
	NFiles           int64 `json:"nfiles"`
}

// decode takes a line apart into text that precedes JSON (a prompt, usually
// empty) and the message. Without a message, all of the line is text.
func decode(line []byte) (text string, said message, isMessage bool) {
	start := bytes.Index(line, []byte(`{"`))
	if start < 0 {
		return string(line), message{}, false
	}
	var m message
	if json.Unmarshal(line[start:], &m) != nil || !known(m.Type) {
		return string(line), message{}, false
	}
	return strings.TrimSpace(string(line[:start])), m, true
}

func known(kind string) bool {
	switch kind {
	case typeArchive, typePercent, typeMessage, typeLog, typeFile:
		return true
	default:
		return strings.HasPrefix(kind, typeQuestion)
	}
}

// moment converts borg's time. A time that no clock shows is the zero time, as
// JSON has no year above 9999.
func moment(seconds float64) time.Time {
	const year9999 = 253402300799
	if !(seconds > 0 && seconds < year9999) { // also false for NaN
		return time.Time{}
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e6)*1000).UTC()
}
