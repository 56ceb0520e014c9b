package uplink

import (
	"context"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// life is the time of one connection.
type life struct {
	over context.Context
	end  context.CancelFunc
}

func newLife() *life {
	over, end := context.WithCancel(context.Background())
	return &life{over, end}
}

// request sends a request and waits for the answer, until its time is over or
// the connection is: the answer could not come any more, and whatever waits for
// it shall go on over the next connection.
func (u *Uplink) request(ctx context.Context, conn *nats.Conn, msg *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, u.timing.Request)
	defer cancel()
	defer context.AfterFunc(u.life.Load().over, cancel)()
	return conn.RequestMsgWithContext(ctx, msg)
}

// urgent reports whether the coordinator waits for something from here: it has
// not stored all events, or attempts run.
func (u *Uplink) urgent() bool {
	snapshot, err := u.options.Journal.Snapshot()
	return err != nil || snapshot.Depth > 0 ||
		slices.ContainsFunc(snapshot.Records, func(r attempt.Record) bool { return !r.Finished })
}

// delay is how long to wait before the next try to connect.
func (u *Uplink) delay(failures int) time.Duration {
	urgent := u.urgent()
	u.unhurried.Store(!urgent)
	if urgent {
		return bus.UrgentDelay(failures)
	}
	return bus.ReconnectDelay(failures)
}

// hurry cuts a wait short that began when there was nothing to tell. It does so
// once for each wait: those that follow are short, as there is something now.
func (u *Uplink) hurry(conn *nats.Conn) {
	if !u.unhurried.Load() || !conn.IsReconnecting() || !u.urgent() || !u.unhurried.CompareAndSwap(true, false) {
		return
	}
	if err := conn.ForceReconnect(); err != nil {
		u.logger.Debug("connect at once", "err", err)
	}
}
