package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// minFollowUp is the first wait for a verdict that was not ready yet; it doubles.
const minFollowUp = 150 * time.Millisecond

// MaxSkew is the difference of clocks from which orders may be refused: they
// live for a short time, by the coordinator's clock.
const MaxSkew = bus.OrderLifetime / 2

// DescribeSkew says how far this host's clock is from the coordinator's, and
// what that means.
func DescribeSkew(skew time.Duration) string {
	which, means := "ahead of", "orders look expired here and are refused"
	if skew < 0 {
		which, means = "behind", "what this host tells has wrong times, and orders that expired are still taken"
	}
	text := fmt.Sprintf("this host's clock is %s %s the coordinator's", skew.Abs().Round(time.Millisecond), which)
	if skew.Abs() > MaxSkew {
		text += ": " + means
	}
	return text
}

// greeter is the state of the hello loop.
type greeter struct {
	*Uplink
	conn     *nats.Conn
	said     []bus.HostAttempt // in the last hello that was answered
	failures int
	waits    int // follow-ups since the last news
	skewed   bool
}

// sayHellos says hello on every connect, soon after the set of attempts has
// changed, and regularly, until ctx ends.
func (u *Uplink) sayHellos(ctx context.Context, conn *nats.Conn) {
	g := &greeter{Uplink: u, conn: conn}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.connected:
		case <-timer.C:
		case <-u.hello:
			if !g.news() || !pause(ctx, u.timing.Settle) {
				continue
			}
		}
		if conn.IsConnected() {
			timer.Reset(g.next(ctx))
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// news reports whether the attempts differ from what the coordinator was told,
// events apart.
func (g *greeter) news() bool {
	snapshot, err := g.options.Journal.Snapshot()
	if err != nil {
		return true // let the hello say what is wrong
	}
	fresh := !slices.EqualFunc(g.said, attempts(snapshot.Records), func(a, b bus.HostAttempt) bool {
		return a.Job == b.Job && a.Attempt == b.Attempt && a.Finished == b.Finished
	})
	if fresh {
		g.waits = 0
	}
	return fresh
}

// next says one hello, and returns how long to wait for the next one.
func (g *greeter) next(ctx context.Context) time.Duration {
	reply, err := g.say(ctx)
	if err == nil && reply.Refused != nil {
		return g.refuse(reply.Refused)
	}
	if err == nil {
		g.accept()
		fault.Point(fault.VerdictRead)
		err = g.options.Handler.Settle(ctx, reply.Verdicts)
	}
	if err != nil {
		if g.failures == 0 && ctx.Err() == nil {
			g.logger.Warn("say hello; trying again", "err", err)
		}
		g.setStatus(func(s *Status) { s.Error, s.Hint = err.Error(), "" })
		g.failures++
		return backoff(g.failures, minRetry, g.mostRetry())
	}
	if g.failures > 0 {
		g.logger.Info("the coordinator answers again")
	}
	g.failures = 0
	return g.after()
}

// mostRetry bounds the wait after a hello that was not answered. With something
// to tell it is short: a try that nobody takes costs next to nothing, and one
// that is not answered has taken five seconds already.
func (g *greeter) mostRetry() time.Duration {
	if g.urgent() {
		return bus.UrgentGap
	}
	return g.timing.Idle
}

// refuse takes in that the coordinator works with another run of the agent, and
// returns when to ask again. What runs here goes on.
func (g *greeter) refuse(why *job.Failure) time.Duration {
	g.accepted.Store(false)
	g.failures = 0
	if !g.refused.Swap(true) {
		g.logger.Error("refused by the coordinator; what runs goes on, and its results are kept", "err", why.Message, "hint", why.Hint)
	}
	g.setStatus(func(s *Status) { s.Error, s.Hint, s.Duplicate = why.Message, why.Hint, true })
	return g.timing.Busy - rand.N(g.timing.Busy/5+1)
}

// accept takes in that the coordinator works with this run of the agent.
func (g *greeter) accept() {
	if g.refused.Swap(false) {
		g.logger.Info("the coordinator works with this agent again")
	}
	if !g.accepted.Swap(true) {
		wake(g.publish)
	}
	wake(g.taken)
}

// after looks at what the verdicts have left, and returns the next wait.
func (g *greeter) after() time.Duration {
	snapshot, err := g.options.Journal.Snapshot()
	if err != nil {
		g.logger.Error("read journal", "err", err)
		return g.timing.Busy
	}
	if g.ledger.overdue(snapshot.Records, time.Now().Add(-g.timing.Republish)) {
		g.logger.Info("telling events again that the coordinator has not stored")
		wake(g.publish)
	}
	if slices.ContainsFunc(snapshot.Records, func(r attempt.Record) bool { return r.Finished }) {
		g.waits++ // its end is about to be told, or was not yet stored when the coordinator answered
		return backoff(g.waits-1, minFollowUp, g.timing.Busy)
	}
	g.waits = 0
	usual := g.timing.Idle
	if slices.ContainsFunc(snapshot.Records, func(r attempt.Record) bool { return !r.Finished }) {
		usual = g.timing.Busy
	}
	return usual - rand.N(usual/5+1)
}

// say sends a hello and returns the reply.
func (g *greeter) say(ctx context.Context) (bus.HelloReply, error) {
	snapshot, err := g.options.Journal.Snapshot()
	if err != nil {
		return bus.HelloReply{}, err
	}
	hello := g.options.Identity()
	hello.Host, hello.Stamp, hello.JournalDepth = g.options.Host, snapshot.Stamp, snapshot.Depth
	hello.Attempts, hello.At = attempts(snapshot.Records), g.options.Now().UTC()
	hello.Instance, hello.Refused = g.options.Instance, g.refused.Load()
	data, err := json.Marshal(hello)
	if err != nil {
		return bus.HelloReply{}, fmt.Errorf("encode hello: %w", err)
	}
	msg, err := g.request(ctx, g.conn, &nats.Msg{Subject: bus.HelloSubject(g.options.Host), Data: data})
	if err != nil {
		return bus.HelloReply{}, fmt.Errorf("hello: %w", err)
	}
	var reply bus.HelloReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return bus.HelloReply{}, fmt.Errorf("decode the reply to hello: %w", err)
	}
	g.said = hello.Attempts
	g.greeted(hello.At, reply.At)
	return reply, nil
}

// greeted notes an answered hello and compares the clocks.
func (g *greeter) greeted(sent, coordinators time.Time) {
	now := g.options.Now().UTC()
	skew := time.Duration(0)
	if !coordinators.IsZero() {
		skew = sent.Add(now.Sub(sent) / 2).Sub(coordinators).Round(time.Millisecond)
	}
	if skewed := skew.Abs() > MaxSkew; skewed != g.skewed {
		g.skewed = skewed
		g.logger.Warn("clocks compared: "+DescribeSkew(skew), "difference", skew)
	}
	g.setStatus(func(s *Status) { s.HelloAt, s.ClockSkew, s.Error, s.Hint, s.Duplicate = now, skew, "", "", false })
}

// attempts returns the journal's records as a hello tells them.
func attempts(records []attempt.Record) []bus.HostAttempt {
	list := make([]bus.HostAttempt, len(records))
	for i, r := range records {
		list[i] = bus.HostAttempt{Job: r.Key.Job, Attempt: r.Key.Number, LastSeq: r.LastSeq, Finished: r.Finished}
	}
	return list
}
