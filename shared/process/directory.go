package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Names of the files in a job directory. They are few because making one is
// what takes longest on the way from a job to its program.
const (
	commandFile = "command.json" // what is to run; locked while a starter or a supervisor lives
	startedFile = "started.json" // not empty once the program may have been started; then its identity
	stdoutFile  = "stdout"       // the program's own outputs
	stderrFile  = "stderr"       //
	exitFile    = "exit.json"    // how it ended
	// For outputFile see pipe.go.
)

// removedPrefix begins the name of a directory that is being deleted.
const removedPrefix = ".removed-"

// plan is the content of command.json.
type plan struct {
	Argv      []string `json:"argv"`
	Env       []string `json:"env"`
	Dir       string   `json:"dir"`
	MakeDir   bool     `json:"make_dir,omitempty"`
	EmptyDir  bool     `json:"empty_dir,omitempty"`
	Recipient string   `json:"recipient,omitempty"`
	// Pipe is how long the program's start waits for the reader of its standard
	// output; 0: that goes into a file.
	Pipe       time.Duration `json:"pipe,omitempty"`
	Nice       int           `json:"nice,omitempty"`
	IOPriority int           `json:"io_priority,omitempty"` // as ioprio_set(2) takes it
	Passphrase bool          `json:"passphrase,omitempty"`  // standard input holds one
}

// identity is the content of started.json: enough to tell the program from a
// later one with the same process id. PID is 0 from just before the start.
type identity struct {
	PID      int       `json:"pid"`
	Ticks    uint64    `json:"start_ticks"` // /proc/<pid>/stat, field 22
	Boot     string    `json:"boot_id"`
	At       time.Time `json:"at"`
	Warnings []string  `json:"warnings,omitempty"` // priorities that could not be set
}

// ending is the content of exit.json.
type ending struct {
	Code          int           `json:"code"`
	Signal        int           `json:"signal,omitempty"`
	StartedAt     time.Time     `json:"started_at,omitzero"`
	EndedAt       time.Time     `json:"ended_at,omitzero"`
	StartError    string        `json:"start_error,omitempty"`
	StartErrno    syscall.Errno `json:"start_errno,omitempty"`
	StartDir      bool          `json:"start_dir,omitempty"`
	Seconds       float64       `json:"seconds,omitempty"` // that it lived, whatever the clock was set to
	UserSeconds   float64       `json:"user_seconds,omitempty"`
	SystemSeconds float64       `json:"system_seconds,omitempty"`
	MaxRSSBytes   int64         `json:"max_rss_bytes,omitempty"`
}

func (e ending) exit() Exit {
	return Exit{
		Code: e.Code, Signal: e.Signal, StartedAt: e.StartedAt, EndedAt: e.EndedAt,
		StartError: e.StartError, StartErrno: e.StartErrno, StartDir: e.StartDir,
		Lived: time.Duration(e.Seconds * float64(time.Second)),
	}
}

// whole reports whether this tells anything: an empty object must not pass for
// a success.
func (e ending) whole() bool { return !e.EndedAt.IsZero() || e.StartError != "" }

// failure is why nothing was started, or nil.
func (e ending) failure() error {
	switch {
	case e.StartError == "":
		return nil
	case e.StartErrno != 0:
		return &StartError{Doing: e.StartError, Err: e.StartErrno, Program: !e.StartDir, Dir: e.StartDir}
	default:
		return &StartError{Doing: "start", Err: errors.New(e.StartError)}
	}
}

// maxIDBytes leaves room in a file name for a prefix.
const maxIDBytes = 128

// validID reports whether an ID is safe as a file name. (A regular expression
// would be compiled at the start of every supervisor, before its job.)
func validID(id string) bool {
	for i := range len(id) {
		c := id[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !plain && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return id != "" && len(id) <= maxIDBytes
}

// directory is a job directory, by its absolute path.
type directory string

// directory returns the job directory of an id.
func (l *Local) directory(id string) (directory, error) {
	if !validID(id) {
		return "", fmt.Errorf("run id %q: letters, digits, '.', '_' and '-' are allowed", id)
	}
	return directory(filepath.Join(l.root, id)), nil
}

func (d directory) file(name string) string { return filepath.Join(string(d), name) }

// there reports whether the directory exists, or cannot be said not to.
func (d directory) there() bool {
	_, err := os.Lstat(string(d))
	return !missing(err)
}

// begun reports whether the program may have been started, or cannot be said
// not to have been.
func (d directory) begun() bool {
	info, err := os.Lstat(d.file(startedFile))
	return err == nil && info.Size() > 0 || err != nil && !missing(err)
}

// missing reports whether an error means that there is no such file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// read decodes a file. It returns false when the file is not there, and when
// it is damaged, which counts as not there. An error says that neither is
// known: too many open files must not make a living program look lost.
func (d directory) read(name string, into any) (bool, error) {
	data, err := os.ReadFile(d.file(name))
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read job directory: %w", err)
	}
	return json.Unmarshal(data, into) == nil, nil
}

// ending reads exit.json.
func (d directory) ending() (ending, bool, error) {
	var end ending
	found, err := d.read(exitFile, &end)
	if err != nil || !found || !end.whole() {
		return ending{}, false, err
	}
	return end, true, nil
}

// cause drops path and operation of a file error, which the caller words
// better.
func cause(err error) error {
	if link, ok := errors.AsType[*os.LinkError](err); ok {
		return link.Err
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}
