package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

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
	switch {
	case err != nil:
	case len(c.Argv) == 0 || c.Argv[0] == "":
		err = errors.New("no program")
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
	return dir, plan{
		Argv: c.Argv, Env: environment(os.Environ(), c.Env), Dir: working,
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
	if err := os.MkdirAll(l.root, 0o700); err != nil {
		return Started{}, &StartError{Doing: "make directory " + l.root, Err: cause(err)}
	}
	if err := os.Mkdir(string(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Started{}, &StartError{Doing: "make job directory " + string(dir), Err: cause(err)}
	}
	lock, err := dir.lock()
	if errors.Is(err, errLocked) {
		return Started{}, err
	}
	if err != nil {
		return Started{}, &StartError{Doing: "lock job directory " + string(dir), Err: cause(err)}
	}
	defer lock.Close() // the supervisor holds it on
	if _, err := os.Lstat(dir.file(exitFile)); err == nil || dir.begun() {
		return Started{}, errLocked // was held until now, and the run has begun
	}
	if err := order.write(lock); err != nil {
		return Started{}, &StartError{Doing: "write " + dir.file(commandFile), Err: cause(err)}
	}
	report, err := l.supervise(dir, lock, passphrase)
	if err != nil {
		return Started{}, &StartError{Doing: "start supervisor", Err: err}
	}
	defer report.Close() // read only: nothing to lose
	dir.prepare()
	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Now()) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(report, maxReport))
	if err != nil && ctx.Err() != nil {
		return Started{}, ctx.Err()
	}
	return l.launched(dir, string(bytes.TrimSpace(said)))
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

// supervise starts the supervisor with the lock and the passphrase. It returns
// a pipe that ends when there is something to see, and holds what a supervisor
// says that could not get so far.
func (l *Local) supervise(dir directory, lock *os.File, passphrase secret.Value) (*os.File, error) {
	if len(l.supervisor) == 0 {
		return nil, errors.New("no supervisor command is set")
	}
	input, err := passphrasePipe(passphrase)
	if err != nil {
		return nil, err
	}
	defer input.Close() // the supervisor has its own
	report, reporter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reporter.Close() // the supervisor has its own
	argv := append(append([]string{}, l.supervisor...), string(dir))
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   "/",
		Env:   append(environment(os.Environ(), nil), "GOMAXPROCS=1"),
		Files: []*os.File{input, reporter, reporter, lock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		report.Close()
		return nil, err
	}
	go func() { _, _ = process.Wait() }() // reaps it; how it ended is in the directory
	return report, nil
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
		return Started{}, &StartError{Doing: "supervise", Err: errors.New(said)}
	}
	known, err := dir.identity()
	for _, warning := range known.Warnings {
		l.logger.Warn("the program runs with another priority", "run", filepath.Base(string(dir)), "err", warning)
	}
	return Started{PID: known.PID, At: known.At}, err
}
