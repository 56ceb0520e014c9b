package sshlink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/job"
)

// What the login shell is given: the same for every script, so that nothing of a
// script shows in the host's list of processes, and in words that sh, csh, fish
// and their kin all take alike: no ', \, ! or line break between the quotes. The
// script comes on standard input, behind a line with its length and its last
// word: one that a lost connection has cut short is not run. dd takes not a byte
// more, so that what follows is left for the script to read; byte by byte where
// it knows no other way to take all of what comes in parts.
const (
	command = "exec " + shell
	asRoot  = "exec sudo -n -H " + shell
	shell   = `/bin/sh -c 'IFS=" " read -r n m && s=$(dd bs=$n count=1 iflag=fullblock 2>/dev/null || dd bs=1 count=$n 2>/dev/null) && case $s in *"$m") eval "$s";; esac'`
)

// Exec runs a script by /bin/sh on the host. The script reads input from its
// standard input; what it prints goes to out and errs (nil: nowhere), which may
// be written to at the same time, and are not once Exec has returned. An exit
// code is no error; a process that a signal ended has 128 more than its number.
// Ending ctx stops waiting; what the script has started on the host may go on.
//
// Errors are *job.Failure: host_unreachable when there is no connection,
// connection_lost when it broke (the script may have run, or run still), what
// State says when a person must act; or those of ctx and of the writers.
//
// At most eight scripts run at a time; Exec waits for its turn.
func (c *Client) Exec(ctx context.Context, script string, input []byte, out, errs io.Writer) (code int, err error) {
	return c.exec(ctx, run{script: script, input: input, out: out, errs: errs})
}

// ExecLong is Exec for scripts that run as long as a job does. When six of them
// run it does not wait, but fails with code unavailable.
func (c *Client) ExecLong(ctx context.Context, script string, input []byte, out, errs io.Writer) (code int, err error) {
	return c.exec(ctx, run{script: script, input: input, out: out, errs: errs, long: true})
}

func (c *Client) exec(ctx context.Context, r run) (int, error) {
	c.mu.Lock()
	l, state := c.link, c.state
	c.mu.Unlock()
	if l == nil {
		return -1, c.away(state)
	}
	r.sudo = c.config.Sudo
	return l.exec(ctx, r)
}

// away says that there is no connection.
func (c *Client) away(s State) *job.Failure {
	if s.Failure != nil {
		return s.Failure
	}
	return job.Fail(job.HostUnreachable, "host %s (%s) is not connected yet", c.config.Host, c.config.Address).
		WithHint("wait a moment and try again")
}

// run is a script and where its input and outputs are.
type run struct {
	script    string
	input     []byte
	out, errs io.Writer
	long      bool
	sudo      bool
}

// probe finds out whether scripts run on the host.
func (l *link) probe(ctx context.Context) *fault {
	if err := l.count(ctx); err != nil {
		return transient(job.AsFailure(err))
	}
	as := []bool{false}
	if l.sudo {
		as = append(as, true)
	}
	for _, sudo := range as {
		code, err := l.exec(ctx, run{script: "exit 0", sudo: sudo})
		if err == nil && code != 0 {
			err = badShell(l.place, sudo, fmt.Sprintf("exit code %d", code))
		}
		if err != nil {
			failure := job.AsFailure(err)
			return &fault{Failure: failure, final: failure.Code == job.PermissionDenied}
		}
	}
	return nil
}

// count finds out how many sessions the server allows at a time, so that what
// runs long never takes the last one.
func (l *link) count(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, l.options.Patience)
	defer stop()
	type answer struct {
		channel ssh.Channel
		err     error
	}
	answers := make(chan answer, mostScripts)
	for range mostScripts {
		go func() {
			channel, requests, err := l.open(ctx)
			if err == nil {
				go ssh.DiscardRequests(requests)
			}
			answers <- answer{channel, err}
		}()
	}
	opened := 0
	var failed error
	for range mostScripts {
		a := <-answers
		if _, refused := errors.AsType[*ssh.OpenChannelError](a.err); a.err == nil {
			opened++
			defer a.channel.Close()
		} else if !refused {
			failed = a.err
		}
	}
	l.places.set(max(1, opened))
	return failed
}

// exec runs a script when there is a place for it.
func (l *link) exec(ctx context.Context, r run) (int, error) {
	channel, requests, free, err := l.session(ctx, r.long)
	if err != nil {
		return -1, err
	}
	defer free()
	marker := rand.Text()
	x := &execution{
		link: l, run: r, channel: channel, out: newGate(marker, r.out), errs: newGate(marker, r.errs),
		copied: make(chan error, 2), status: make(chan int, 1), over: make(chan struct{}),
	}
	line := command
	if r.sudo {
		line = asRoot
	}
	go x.listen(requests)
	go x.begin(line, wrapped(r.script, marker))
	code, err := x.wait(ctx)
	go l.leave(x) // it may have to wait for the network
	return x.outcome(code, err)
}

// maxUnclosed is how many sessions a server may leave open that we have closed. A
// process that runs on keeps its own open; each costs us something.
const maxUnclosed = 64

var errUnclosed = errors.New("it closes no sessions")

// leave ends a script's channel, and waits until the server has closed it too.
func (l *link) leave(x *execution) {
	if l.unclosed.Add(1) > maxUnclosed {
		l.close(errUnclosed)
	}
	x.end()
	<-x.over
	l.unclosed.Add(-1)
}

// session opens a channel for a script; free gives its place back. A server that
// refuses may only not have noticed yet that another script is over.
func (l *link) session(ctx context.Context, long bool) (ssh.Channel, <-chan *ssh.Request, func(), error) {
	var refusals time.Duration
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		free, ok, err := l.places.take(ctx, long)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("waiting to run a script on %s: %w", l.place, err)
		}
		if !ok {
			return nil, nil, nil, job.Fail(job.Unavailable, "%s runs as many long scripts over one connection as it may", l.place)
		}
		channel, requests, err := l.open(ctx)
		if err == nil {
			return channel, requests, free, nil
		}
		free()
		refusal, refused := errors.AsType[*ssh.OpenChannelError](err)
		switch {
		case !refused:
			return nil, nil, nil, err
		case refusals > l.options.Patience:
			return nil, nil, nil, job.Fail(job.PermissionDenied, "%s opens no session: %s", l.place, cleaned(refusal.Message)).
				WithHint("see MaxSessions in sshd_config there: 10 is sshd's own choice, and 3 the least to work well")
		}
		select {
		case <-time.After(pause):
			refusals += pause
		case <-ctx.Done():
		}
	}
}

// open opens a channel, unless ctx ends first.
func (l *link) open(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error) {
	type answer struct {
		channel  ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		channel, requests, err := l.client.OpenChannel("session", nil)
		answered <- answer{channel, requests, err}
	}()
	select {
	case a := <-answered:
		if _, refused := errors.AsType[*ssh.OpenChannelError](a.err); a.err != nil && !refused {
			return nil, nil, lost(l.place, a.err)
		}
		return a.channel, a.requests, a.err
	case <-ctx.Done():
		go func() {
			if a := <-answered; a.err == nil {
				go ssh.DiscardRequests(a.requests)
				a.channel.Close()
			}
		}()
		return nil, nil, fmt.Errorf("running a script on %s: %w", l.place, ctx.Err())
	}
}

// wrapped is what the command reads: the line that it begins with, and the
// script, which first prints the marker on both outputs.
func wrapped(script, marker string) string {
	script = "echo " + marker + "; echo " + marker + " >&2\n" + script + "\n# " + marker
	return strconv.Itoa(len(script)) + " " + marker + "\n" + script
}
