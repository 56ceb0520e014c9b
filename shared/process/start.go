package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Waiting for another starter, which is rare: how often to look, and after how
// long a supervisor that told nothing is looked through.
const (
	startPoll  = 2 * time.Millisecond
	startQuiet = time.Second
)

// Start starts a program in a job directory of its own, and returns as soon as
// it runs. An ID that was started before is not started again: Start returns
// what is known of the first time.
//
// A [*StartError] says that the program does not run and never did. Any other
// error leaves that open; Start may then be called again.
func (l *Local) Start(ctx context.Context, c Command, passphrase secret.Value) (Started, error) {
	dir, order, err := l.plan(c, passphrase)
	if err != nil {
		return Started{}, err
	}
	begun := time.Now()
	for {
		at, end, err := dir.look()
		if err != nil {
			return Started{}, err
		}
		if at == unstarted {
			started, err := l.launch(ctx, dir, order, passphrase)
			if !errors.Is(err, errLocked) {
				return started, err
			}
		} else {
			started, known, err := dir.started(at, time.Since(begun) > startQuiet)
			if err != nil || known {
				return started, errors.Join(err, end.failure())
			}
		}
		select {
		case <-ctx.Done():
			return Started{}, ctx.Err()
		case <-time.After(startPoll):
		}
	}
}

// plan checks a command.
func (l *Local) plan(c Command, passphrase secret.Value) (directory, plan, error) {
	dir, err := l.directory(c.ID)
	if err != nil {
		return "", plan{}, &StartError{Doing: "check command", Err: err}
	}
	priority, err := parseIOClass(c.IOClass)
	if err == nil && c.Recipient != "" {
		_, err = age.ParseX25519Recipient(c.Recipient)
	}
	switch {
	case err != nil:
	case len(c.Argv) == 0 || c.Argv[0] == "":
		err = errors.New("no program")
	case c.Pipe && c.Recipient != "":
		err = errors.New("output that is encrypted cannot be piped")
	case len(passphrase.Reveal()) > secret.MaxBytes:
		err = fmt.Errorf("the passphrase is longer than %d bytes", secret.MaxBytes)
	case c.Nice < -20 || c.Nice > 19:
		err = fmt.Errorf("nice %d is not between -20 and 19", c.Nice)
	}
	if err != nil {
		return "", plan{}, &StartError{Doing: "check command", Err: err}
	}
	working := c.Dir
	if working == "" {
		working = "/"
	}
	var patience time.Duration
	if c.Pipe {
		patience = l.readerPatience
	}
	return dir, plan{
		Argv: c.Argv, Env: environment(os.Environ(), dir.told(c.Env)), Pipe: patience,
		Dir: working, MakeDir: c.MakeDir, EmptyDir: c.EmptyDir, Recipient: c.Recipient,
		Nice: c.Nice, IOPriority: priority, Passphrase: !passphrase.Empty(),
	}, nil
}

// started returns what was started in a directory that is past unstarted. It
// is not known while a supervisor is about to start it; thorough then looks
// for the program itself.
func (d directory) started(at phase, thorough bool) (Started, bool, error) {
	var known identity
	_, err := d.read(startedFile, &known)
	if err == nil && known.PID == 0 && (at != supervised || thorough) {
		known, err = d.search()
	}
	return Started{PID: known.PID, At: known.At}, at != supervised || known.PID != 0, err
}

// launch makes the directory and starts a supervisor in it, unless another
// starter is there first: then it returns errLocked.
func (l *Local) launch(ctx context.Context, dir directory, order plan, passphrase secret.Value) (Started, error) {
	own, err := l.claim(dir)
	if err != nil {
		return Started{}, err
	}
	defer own.lock.Close() // the supervisor holds it on
	if err := order.write(own.lock); err != nil {
		return Started{}, &StartError{Doing: "write " + dir.file(commandFile), Err: cause(err)}
	}
	if order.Pipe > 0 {
		if err := dir.makePipe(); err != nil {
			return Started{}, &StartError{Doing: "make pipe " + dir.file(outputFile), Err: err}
		}
	}
	said, err := l.supervise(ctx, own, passphrase)
	if err == nil && said == "" && own.ready != nil && !dir.begun() {
		own.ready = nil // it was killed, and nothing has come of it
		said, err = l.supervise(ctx, own, passphrase)
	}
	if err != nil {
		return Started{}, err
	}
	if l.standby {
		l.reserve.refill(l.prepare)
	}
	return l.launched(dir, said)
}

// claim is a directory in which nothing has begun, and its lock. If it was a
// standby's, that is ready for it.
type claim struct {
	dir   directory
	lock  *os.File
	ready *standby
}

func (l *Local) claim(dir directory) (claim, error) {
	if ready := l.reserve.take(); ready != nil {
		// This fails if the directory is there and not empty.
		if err := os.Rename(string(ready.dir), string(dir)); err == nil {
			return claim{dir, ready.lock, ready}, nil
		}
		ready.discard()
	}
	if err := os.MkdirAll(l.root, 0o700); err != nil {
		return claim{}, &StartError{Doing: "make directory " + l.root, Err: cause(err)}
	}
	if err := os.Mkdir(string(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return claim{}, &StartError{Doing: "make job directory " + string(dir), Err: cause(err)}
	}
	lock, err := dir.lock()
	if errors.Is(err, errLocked) {
		return claim{}, err
	}
	if err != nil {
		return claim{}, &StartError{Doing: "lock job directory " + string(dir), Err: cause(err)}
	}
	if _, err := os.Lstat(dir.file(exitFile)); err == nil || dir.begun() {
		lock.Close()
		return claim{}, errLocked // was held until now, and the run has begun
	}
	return claim{dir: dir, lock: lock}, nil
}

// maxReport bounds what a supervisor can say when it fails.
const maxReport = 2000

// write puts the plan into command.json. It does so in place: nobody reads it
// but the supervisor, which is not started before.
func (p plan) write(file *os.File) error {
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err = file.WriteAt(content, 0)
	return err
}

// prepare makes the files that the supervisor needs, while it is still coming
// up. Faults are left to the supervisor, which makes what is missing.
func (d directory) prepare() {
	for _, name := range []string{stdoutFile, stderrFile, startedFile} {
		if file, err := os.OpenFile(d.file(name), os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			file.Close() // nothing was written
		}
	}
}

// supervise gives a run to the supervisor that stands by, or to a new one, and
// waits until there is something to see. It returns what a supervisor said that
// could not get so far.
func (l *Local) supervise(ctx context.Context, own claim, passphrase secret.Value) (string, error) {
	input, report, reporter, err := startPipes(passphrase)
	if err != nil {
		return "", &StartError{Doing: "start supervisor", Err: err}
	}
	defer report.Close() // read only: nothing to lose
	if own.ready == nil || own.ready.handOver(own.dir, input, reporter) != nil {
		err = l.spawn(string(own.dir), []*os.File{input, reporter, reporter, own.lock})
		own.dir.prepare() // while it is coming up
	}
	input.Close()    // the supervisor has its own
	reporter.Close() // likewise
	if err != nil {
		return "", &StartError{Doing: "start supervisor", Err: err}
	}
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Now()) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(report, maxReport))
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	return string(bytes.TrimSpace(said)), nil
}

// firstInherited is the first descriptor that is none of the standard ones.
const firstInherited = 3

// spawn starts a supervisor in a session of its own.
func (l *Local) spawn(argument string, files []*os.File) error {
	if len(l.supervisor) == 0 {
		return errors.New("no supervisor command is set")
	}
	// What this process itself was started with, and does not know of, stays
	// out of a program that outlives it: the lock of a script, a pipe that
	// somebody reads to its end. Best effort; kernels before 5.11 cannot.
	_ = unix.CloseRange(firstInherited, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	argv := append(append([]string{}, l.supervisor...), argument)
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   "/",
		Env:   append(environment(os.Environ(), fault.Environ()), "GOMAXPROCS=1"),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	go func() { _, _ = process.Wait() }() // reaps it; how it ended is in the directory
	return nil
}

// startPipes returns a supervisor's standard input, and both ends of its
// report pipe.
func startPipes(passphrase secret.Value) (input, report, reporter *os.File, err error) {
	if input, err = passphrasePipe(passphrase); err != nil {
		return nil, nil, nil, err
	}
	if report, reporter, err = os.Pipe(); err != nil {
		input.Close()
		return nil, nil, nil, err
	}
	return input, report, reporter, nil
}

// passphrasePipe returns a pipe that holds the whole passphrase and its end.
func passphrasePipe(passphrase secret.Value) (*os.File, error) {
	if passphrase.Empty() {
		return os.Open(os.DevNull)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = writer.Write(passphrase.Reveal()) // cannot block: a pipe holds more than secret.MaxBytes
	if err := errors.Join(err, writer.Close()); err != nil {
		reader.Close()
		return nil, err
	}
	return reader, nil
}

// launched reads what a supervisor that reported, or died, has left.
func (l *Local) launched(dir directory, said string) (Started, error) {
	end, _, err := dir.ending()
	if err != nil || end.failure() != nil {
		return Started{}, errors.Join(err, end.failure())
	}
	if !dir.begun() {
		if said == "" {
			said = "the supervisor ended without a word"
		}
		return Started{}, &StartError{Doing: "supervise", Err: reported(said)}
	}
	known, err := dir.identity()
	for _, warning := range known.Warnings {
		l.logger.Warn("the program runs with another priority", "run", filepath.Base(string(dir)), "err", warning)
	}
	return Started{PID: known.PID, At: known.At}, err
}
