package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// execution is one script that runs.
type execution struct {
	link      *link
	run       run
	channel   ssh.Channel
	out, errs *gate

	copied chan error    // an output has ended, well or not
	status chan int      // the exit code, if the server says one
	over   chan struct{} // closed when the server has closed the channel
}

// drained is how long the outputs are silent, once the process has exited, until
// we look whether more can come. What it has left running may hold them open.
const drained = 2 * time.Second

// begin gives the command to the login shell, and then the script and its input.
func (x *execution) begin(command, script string) {
	ok, err := x.channel.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
	if err == nil && !ok {
		err = errRefused
	}
	if err != nil {
		x.copied <- err
		return
	}
	go x.carry(x.out, x.channel)
	go x.carry(x.errs, x.channel.Stderr())
	// A script may exit before it has read everything.
	if _, err := io.WriteString(x.channel, script); err == nil {
		x.channel.Write(x.run.input)
	}
	x.channel.CloseWrite()
}

// carry brings what the host prints to a gate.
func (x *execution) carry(to *gate, from io.Reader) {
	buffer := make([]byte, 32<<10)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, from, buffer)
	x.copied <- err
}

// listen notes the exit code.
func (x *execution) listen(requests <-chan *ssh.Request) {
	defer close(x.over)
	for request := range requests {
		var exit struct{ Code uint32 }
		var signal struct {
			Name   string
			Core   bool
			Error  string
			Locale string
		}
		switch {
		case request.Type == "exit-status" && ssh.Unmarshal(request.Payload, &exit) == nil:
			x.exited(int(exit.Code))
		case request.Type == "exit-signal" && ssh.Unmarshal(request.Payload, &signal) == nil:
			x.exited(128 + signals[ssh.Signal(signal.Name)])
		}
		if request.WantReply {
			request.Reply(false, nil)
		}
	}
}

// exited notes the first exit code that is told.
func (x *execution) exited(code int) {
	select {
	case x.status <- code:
	default:
	}
}

// signals are those that SSH has names for.
var signals = map[ssh.Signal]int{
	ssh.SIGHUP: 1, ssh.SIGINT: 2, ssh.SIGQUIT: 3, ssh.SIGILL: 4, ssh.SIGABRT: 6, ssh.SIGFPE: 8, ssh.SIGKILL: 9,
	ssh.SIGUSR1: 10, ssh.SIGSEGV: 11, ssh.SIGUSR2: 12, ssh.SIGPIPE: 13, ssh.SIGALRM: 14, ssh.SIGTERM: 15,
}

// noCode is the exit code of a process whose end was not told.
const noCode = -1

// Why there is no exit code.
var (
	errSilent  = errors.New("no script began in time")
	errRefused = errors.New("it runs no commands")
)

// wait returns the exit code when both outputs have ended.
func (x *execution) wait(ctx context.Context) (int, error) {
	patience := time.NewTimer(x.link.options.Patience)
	defer patience.Stop()
	quiet := time.NewTicker(drained)
	defer quiet.Stop()
	code, open, status, over := noCode, 2, x.status, x.over
	for open > 0 || status != nil && over != nil {
		select {
		case err := <-x.copied:
			open--
			if err != nil {
				return code, err
			}
		case code = <-status:
			status = nil
			quiet.Reset(drained)
		case <-over:
			over = nil
			select {
			case code = <-status:
				status = nil
			default:
			}
		case <-quiet.C:
			if status == nil && x.silent(ctx) {
				return code, nil
			}
		case <-patience.C:
			if !x.begun() {
				return code, errSilent
			}
		case <-ctx.Done():
			return code, ctx.Err()
		}
	}
	return code, nil
}

// begun reports whether the script runs.
func (x *execution) begun() bool {
	for _, g := range []*gate{x.out, x.errs} {
		select {
		case <-g.opened:
		default:
			return false
		}
	}
	return true
}

// silent reports whether nothing comes any more of what an exited process has
// printed: there was nothing for a while, nor by the time that the host, asked
// now, has answered.
func (x *execution) silent(ctx context.Context) bool {
	since := time.Now().Add(-drained)
	if !x.out.quiet(since) || !x.errs.quiet(since) {
		return false
	}
	return x.link.ask(ctx) == nil && x.out.quiet(since) && x.errs.quiet(since)
}

// end ends the channel, and asks the server to end the script if it still runs.
func (x *execution) end() {
	x.channel.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{string(ssh.SIGTERM)}))
	x.channel.Close()
}

// outcome says what became of the script. Nothing is written from now on.
func (x *execution) outcome(code int, err error) (int, error) {
	first, written := x.out.shut()
	second, other := x.errs.shut()
	l, words := x.link, x.said()
	switch {
	case written != nil || other != nil:
		return noCode, fmt.Errorf("taking what a script on %s prints: %w", l.place, errors.Join(written, other))
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return noCode, fmt.Errorf("running a script on %s: %w", l.place, err)
	case code != noCode && first && second:
		return code, nil
	}
	if gone := l.gone(); gone != nil {
		return noCode, lost(l.place, gone)
	}
	switch {
	case first && second:
		return noCode, lost(l.place, errors.New("the server ended the script and told no exit code"))
	case errors.Is(err, errSilent) && words == "":
		return noCode, unreachable(l.place, "its login shell does nothing for %s", l.options.Patience)
	case words == "" && err != nil:
		words = err.Error()
	case words == "" && code != noCode:
		words = fmt.Sprintf("nothing, and exited with code %d", code)
	}
	return noCode, badShell(l.place, x.run.sudo, words)
}

// said is what the login printed in place of running the script.
func (x *execution) said() string { return strings.TrimSpace(x.errs.noise() + " " + x.out.noise()) }
