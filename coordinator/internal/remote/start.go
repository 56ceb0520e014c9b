package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// napTime is how long a script waits between two looks for its other side.
const napTime = 50 * time.Millisecond

// Start implements engine.Executor: see [process.Local.Start].
func (h *Host) Start(ctx context.Context, c process.Command, passphrase secret.Value) (process.Started, error) {
	if err := check(c, passphrase); err != nil {
		return process.Started{}, &process.StartError{Doing: "check command", Err: err}
	}
	if c.Recipient != "" {
		stop := h.encrypt(c)
		started, err := h.start(ctx, c, passphrase)
		if _, refused := errors.AsType[*process.StartError](err); refused {
			stop()
		}
		return started, err
	}
	return h.start(ctx, c, passphrase)
}

// check returns why a command can never be run.
func check(c process.Command, passphrase secret.Value) error {
	if err := checkID(c.ID); err != nil {
		return err
	}
	if _, err := ionice(c.IOClass); err != nil {
		return err
	}
	for _, text := range append(append([]string{c.Dir}, c.Argv...), c.Env...) {
		if strings.ContainsRune(text, 0) {
			return errors.New("a null byte in it cannot be handed to a program")
		}
	}
	switch {
	case len(c.Argv) == 0 || c.Argv[0] == "":
		return errors.New("no program")
	case strings.Contains(c.Argv[0], "="):
		return fmt.Errorf("the path of the program %s has an = in it", c.Argv[0])
	case c.Pipe && c.Recipient != "":
		return errors.New("output that is encrypted cannot be piped")
	case len(passphrase.Reveal()) > secret.MaxBytes:
		return fmt.Errorf("the passphrase is longer than %d bytes", secret.MaxBytes)
	case bytes.ContainsRune(passphrase.Reveal(), 0):
		return errors.New("the passphrase has a null byte in it, which no shell can hold")
	case c.Nice < -20 || c.Nice > 19:
		return fmt.Errorf("nice %d is not between -20 and 19", c.Nice)
	case c.MakeDir && strings.Contains(c.Dir+"/", "/../"):
		return fmt.Errorf("%s leads up again: %w", c.Dir, syscall.EINVAL)
	}
	if c.Recipient != "" {
		_, err := age.ParseX25519Recipient(c.Recipient)
		return err
	}
	return nil
}

// start starts a run, or finds out what was started.
func (h *Host) start(ctx context.Context, c process.Command, passphrase secret.Value) (process.Started, error) {
	script := h.startScript(c, passphrase)
	for {
		said, err := h.ask(ctx, script, passphrase.Reveal())
		if err != nil {
			return process.Started{}, fmt.Errorf("start %s on %s: %w", c.ID, h.options.Host, err)
		}
		if said.get("refused") != "" {
			return process.Started{}, h.refused(said)
		}
		at, err := where(said)
		switch {
		case err != nil:
			return process.Started{}, err
		case at.phase == ended:
			return at.begun(), h.failedStart(c, at)
		case at.phase == unstarted:
			return process.Started{}, h.unbegun(said)
		case at.started.known || at.phase == lost:
			return at.begun(), nil
		}
		if err := wait(ctx, placeTime); err != nil { // it has waited itself, if it is what it should be
			return process.Started{}, err
		}
	}
}

// startScript is what starts a run. All of it may be seen on the host; the
// passphrase is not in it.
func (h *Host) startScript(c process.Command, passphrase secret.Value) string {
	pipe, sealed := 0, ""
	if c.Pipe || c.Recipient != "" {
		pipe = max(1, int(h.options.ReaderPatience/napTime))
	}
	if c.Recipient != "" {
		sealed = "yes"
	}
	own := values{
		"length": strconv.Itoa(len(passphrase.Reveal())), "pipe": strconv.Itoa(pipe), "sealed": sealed,
		"values": h.header(c, pipe, !passphrase.Empty()), "library": common, "work": work,
		"candidate": h.options.Host + "@borgfleet-" + strings.ToLower(rand.Text()),
	}
	return h.place(c.ID) + own.String() + "eval \"$library\"\n" + start
}

// header is what stands in front of the supervisor's script. The first line is
// read back by [Host.Argv].
func (h *Host) header(c process.Command, pipe int, passphrase bool) string {
	dir, parts := c.Dir, []string{}
	if dir == "" {
		dir = "/"
	}
	own := values{"pipe": strconv.Itoa(pipe), "make": "", "empty": ""}
	if c.MakeDir {
		own["make"] = "yes"
		for part := range strings.SplitSeq(dir, "/") {
			if part != "" && part != "." {
				parts = append(parts, part)
			}
		}
		dir = "/" + strings.Join(parts, "/")
	}
	if c.EmptyDir {
		own["empty"] = "yes"
	}
	own["place"] = dir
	text := argvMark + quoteAll(c.Argv) + "\n" + h.place(c.ID) + own.String() + "parts() {\n:\n"
	for _, part := range parts {
		text += "step " + quote(part) + "\n"
	}
	return text + "}\n" + priorities(c) + become(c.Env, passphrase)
}

// argvMark is how the line with a run's program begins.
const argvMark = "role=${1-}; set -- "

// become is a function of the shell that becomes the program: with the settings
// of a login that programs get, ours, and those of the command.
func become(env []string, passphrase bool) string {
	words := `env -i "PATH=$PATH"`
	for _, name := range []string{"HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"} {
		words += ` ${` + name + `:+"` + name + `=$` + name + `"}`
	}
	words += ` "BORG_BASE_DIR=$dir/borg" "BORG_HOST_ID=$hostid" "BORGFLEET_DIR=$job" ` + quoteAll(env)
	files := `0</dev/null`
	if passphrase {
		words, files = words+" BORG_PASSPHRASE_FD=3", `3<&0 0</dev/null`
	}
	return "become() { exec $front " + words + ` "$@" ` + files + ` 1>&5 2>>"$job/stderr" 5>&- 9>&-; }` + "\n"
}

// priorities is a function of the shell that finds out which of the wanted
// priorities the host can give.
func priorities(c process.Command) string {
	text := "priorities() {\n:\n"
	if class, _ := ionice(c.IOClass); class != "" { // it was checked
		text += "kind ionice " + class + "\n"
	}
	if c.Nice != 0 {
		text += "kind nice -n " + strconv.Itoa(c.Nice) + "\n"
	}
	return text + "}\n"
}

// ionice returns the options of the program of that name.
func ionice(class string) (string, error) {
	if class == "" {
		return "", nil
	}
	name, level, given := strings.Cut(class, ":")
	number := map[string]string{"realtime": "1", "best-effort": "2", "idle": "3"}[name]
	if number == "" || given && (number == "3" || len(level) != 1 || level < "0" || level > "7") {
		return "", fmt.Errorf("I/O class %q is not idle, best-effort:0 to 7, or realtime:0 to 7", class)
	}
	if given {
		return "-c " + number + " -n " + level, nil
	}
	return "-c " + number, nil
}

// explained is a fault of the system with words for people.
type explained struct {
	err     error
	failure *job.Failure
}

// Error implements error.
func (e explained) Error() string { return e.err.Error() }

// Unwrap gives errors.Is and errors.As both.
func (e explained) Unwrap() []error { return []error{e.err, e.failure} }

// refused explains why a start has begun nothing.
func (h *Host) refused(said answers) error {
	words := strings.TrimSpace(said.get("said"))
	switch said.get("refused") {
	case "input":
		return fmt.Errorf("the connection to %s broke before the passphrase was there", h.options.Host)
	case "printf":
		failure := job.Fail(job.PermissionDenied, "the shell of %s would give a passphrase to another program to print", h.options.Host).
			WithHint("its /bin/sh has neither printf nor print of its own: install dash, bash or busybox as /bin/sh")
		return &process.StartError{Doing: "hand over the passphrase", Err: explained{errors.New("printf is no part of the shell"), failure}}
	}
	if said.get("refused") == "foreign" {
		failure := job.Fail(job.PermissionDenied, "the directory %s on %s %s, who could change what runs there", said.get("dir"), h.options.Host, shown(words)).
			WithHint("give it to the user that the coordinator logs in as (chown), let nobody else write to it (chmod go-w), or keep things elsewhere: borgfleet host set %s --dir DIR", h.options.Host)
		return &process.StartError{Doing: "look at " + said.get("dir"), Err: explained{syscall.EACCES, failure}}
	}
	errno, failure := h.unwritable(said.get("dir"), words)
	return &process.StartError{Doing: "make a job directory under " + said.get("dir"), Err: explained{errno, failure}}
}

// unwritable explains what a host said about a directory of ours.
func (h *Host) unwritable(dir, words string) (syscall.Errno, *job.Failure) {
	errno := errnoIn(words)
	code, hint := job.PermissionDenied, "let the user that the coordinator logs in as write there, or keep things elsewhere"
	if errno == syscall.ENOSPC || errno == syscall.EDQUOT {
		code, hint = job.DiskFull, "free some space there, or keep things on another disk"
	}
	return errno, job.Fail(code, "nothing can be written to %s on %s: %s", dir, h.options.Host, errno).
		WithHint("%s: borgfleet host set %s --dir DIR", hint, h.options.Host)
}

// unbegun explains why nothing runs after a start.
func (h *Host) unbegun(said answers) error {
	switch {
	case said.get("word") == "setsid":
		failure := job.Fail(job.PermissionDenied, "%s cannot run anything that outlives a connection: it has no setsid, and its shell no job control", h.options.Host).
			WithHint("install setsid there (util-linux or busybox)")
		return &process.StartError{Doing: "start a supervisor", Err: explained{syscall.ENOSYS, failure}}
	case said.get("who") == "nobody":
		return &process.StartError{Doing: "start", Err: errors.New("the run was given up before it began")}
	default:
		return fmt.Errorf("the supervisor on %s ended without a word", h.options.Host)
	}
}

// failedStart is why a run that is over never began, or nil.
func (h *Host) failedStart(c process.Command, at run) error {
	if at.exit.StartError == "" {
		return nil
	}
	failed := &process.StartError{Doing: at.exit.StartError, Err: errors.New("see the host"), Dir: at.exit.StartDir}
	if at.exit.StartErrno != 0 {
		failed.Err = at.exit.StartErrno
	}
	switch {
	case at.exit.StartDir:
		failed.Doing = "enter working directory " + c.Dir
	case at.program:
		failed.Doing, failed.Program = "run "+c.Argv[0], true
		if c.Argv[0] == h.options.Borg {
			failed.Err = explained{failed.Err, h.missing(failed.Err.Error(), "")}
		}
	case at.exit.StartErrno == syscall.EPIPE:
		failed.Doing = "nobody reads the output"
	}
	return failed
}
