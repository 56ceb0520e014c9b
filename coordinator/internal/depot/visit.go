package depot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	// Borg 1.2 reads what the server's standard error says only as long as standard
	// output is open, so the reason goes ahead of the end by this much.
	reasonTime = 300 * time.Millisecond
	// That a client may take to read the last words.
	farewellTime = 5 * time.Second
	refusedCode  = 1
	bufferSize   = 128 << 10
)

// asksForServe reports whether a client wants borg serve. What else it says
// (options of other versions of borg, or another path of borg) makes no
// difference to what runs.
func asksForServe(command string) bool {
	words := strings.Fields(command)
	return len(words) >= 2 && strings.HasPrefix(filepath.Base(words[0]), "borg") && words[1] == "serve"
}

// visit lets a client talk to a borg serve, and returns the exit status that it
// is told.
func (c *connection) visit(channel ssh.Channel, command string) int {
	s, repository := c.server, c.conn.User()
	if !asksForServe(command) {
		return c.reject(channel, errors.New("nothing but borg serve is to be had here"))
	}
	grant, failure := s.options.Grant(c.key, repository)
	if failure != nil {
		return c.reject(channel, failure)
	}
	if grant.Host != c.host || grant.Repository != repository {
		return c.reject(channel, errChanged)
	}
	v, err := s.table.add(c.gone, grant)
	if err != nil {
		return c.reject(channel, err)
	}
	defer s.table.remove(v) // where borg never began
	if s.options.Busy(repository) {
		return c.reject(channel, errBusy)
	}
	if err := s.prepare(grant); err != nil {
		s.logger.Error("cannot serve a repository", "repo", repository, "host", c.host, "err", err)
		return c.reject(channel, errors.New("this repository cannot be served now; the coordinator's log says why"))
	}
	p, err := s.start(grant)
	if err != nil {
		s.logger.Error("cannot run borg serve", "repo", repository, "host", c.host, "err", err)
		return c.reject(channel, errors.New(borg.DepotBroken+"; its log says why"))
	}
	s.logger.Debug("serving", "repo", repository, "host", c.host, "pid", p.cmd.Process.Pid)
	return c.relay(channel, v, p)
}

// reject tells a client why it is not served.
func (c *connection) reject(channel ssh.Channel, reason error) int {
	c.server.refuse(c.conn.User(), "request refused", "host", c.host, "err", reason)
	c.say(channel, reason)
	return refusedCode
}

func (c *connection) say(channel ssh.Channel, reason error) {
	defer time.AfterFunc(farewellTime, func() { c.conn.Close() }).Stop()
	fmt.Fprintf(channel.Stderr(), "%s%s\n", borg.DepotSays, reason)
	select {
	case <-time.After(reasonTime):
	case <-c.gone.Done():
	}
}

// relay carries what client and borg say to each other, until borg is gone. It
// returns borg's exit status.
func (c *connection) relay(channel ssh.Channel, v *visit, p *process) int {
	use := c.server.meter.of(v.grant.Repository)
	use.connections.Add(1)
	use.open.Add(1)
	defer use.open.Add(-1)
	go func() {
		defer p.input.Close()
		to := io.Writer(p.input)
		if v.grant.AppendOnly {
			to = &guard{to: p.input}
		}
		err := carry(to, channel, &use.received)
		if refusal, ok := errors.AsType[*refusal](err); ok {
			v.end(refusal)
		}
	}()
	go c.review(v)
	told := make(chan struct{}) // all that borg says has gone to the client
	go func() {
		defer close(told)
		errs := make(chan struct{})
		go func() {
			defer close(errs)
			carry(visited{channel.Stderr(), v}, p.errors, &use.sent)
			io.Copy(io.Discard, p.errors)
		}()
		carry(visited{channel, v}, p.output, &use.sent)
		io.Copy(io.Discard, p.output) // else borg could not end
		<-errs
	}()
	code := p.wait(v.over)
	if err := c.server.remember(v.grant.Repository); err != nil {
		c.server.logger.Warn("cannot note what a repository is like", "repo", v.grant.Repository, "err", err)
	}
	reason := context.Cause(v.over)
	c.server.table.remove(v)
	c.server.logger.Debug("served", "repo", v.grant.Repository, "host", v.grant.Host, "code", code, "ended", reason)
	return c.farewell(channel, reason, told, code)
}

// review ends a visit that would not begin any more. Another quota is for the
// next one.
func (c *connection) review(v *visit) {
	ticks := time.NewTicker(c.server.times.keepalive)
	defer ticks.Stop()
	for {
		select {
		case <-v.over.Done():
			return
		case <-ticks.C:
		}
		switch grant, failure := c.server.options.Grant(c.key, v.grant.Repository); {
		case failure != nil && failure.Code != job.Internal: // a fault of ours takes nothing from anybody
			v.end(failure)
		case failure == nil && (grant.Host != v.grant.Host || grant.AppendOnly && !v.grant.AppendOnly):
			v.end(errChanged)
		}
	}
}

// farewell says why a visit was ended, or waits until the client knows all that
// borg has said. It returns what the client is told as borg's exit status.
func (c *connection) farewell(channel ssh.Channel, reason error, told <-chan struct{}, code int) int {
	if reason == nil {
		select {
		case <-told:
		case <-c.gone.Done():
		}
		return code
	}
	if c.gone.Err() != nil {
		return code
	}
	if refusal, ok := errors.AsType[*refusal](reason); ok {
		c.server.refuse(c.conn.User(), "request refused", "host", c.host, "err", refusal)
	}
	c.say(channel, reason)
	return refusedCode
}

// carry copies until one side ends, and counts.
func carry(to io.Writer, from io.Reader, moved *atomic.Uint64) error {
	buffer := make([]byte, bufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			moved.Add(uint64(n))
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// visited lets nothing through any more when a visit has to end: borg complains
// in the middle of its protocol then.
type visited struct {
	io.Writer
	visit *visit
}

// Write implements io.Writer.
func (w visited) Write(p []byte) (int, error) {
	if w.visit.over.Err() != nil {
		return 0, context.Cause(w.visit.over)
	}
	return w.Writer.Write(p)
}
