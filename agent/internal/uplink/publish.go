package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	publishWorkers = 8  // attempts whose events travel at the same time
	publishBatch   = 32 // events read from the journal at once
	minRetry       = 200 * time.Millisecond
	maxRetry       = 2 * time.Second // only hosts with something to tell try
)

// publishEvents publishes what the journal has and the stream has not, until
// ctx ends. It is quiet while the coordinator does not work with this run of the
// agent: a copied machine has a copied journal, and what that says happened here
// did not, or goes on elsewhere.
func (u *Uplink) publishEvents(ctx context.Context, conn *nats.Conn) {
	failures := 0
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.publish:
		case <-retry.C:
		}
		if !conn.IsConnected() || !u.accepted.Load() {
			continue // what changes that wakes us
		}
		err := u.publishRound(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if failures > 0 {
				u.logger.Info("events are taken again")
			}
			failures = 0
			continue
		}
		if failures == 0 {
			u.logger.Warn("publish events; they stay in the journal and are tried again", "err", err)
		}
		retry.Reset(backoff(failures, minRetry, maxRetry))
		failures++
	}
}

// publishRound publishes the events of all attempts, several attempts at a
// time, and asks for a hello when the set of attempts has changed.
func (u *Uplink) publishRound(ctx context.Context, conn *nats.Conn) error {
	snapshot, err := u.options.Journal.Snapshot()
	if err != nil {
		return err
	}
	u.ledger.retain(snapshot.Records)
	slots := make(chan struct{}, publishWorkers)
	errs := make([]error, len(snapshot.Records))
	var group sync.WaitGroup
	for i, r := range snapshot.Records {
		if r.LastSeq <= max(r.Stored, u.ledger.upTo(r.Key)) {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			errs[i] = u.publishAttempt(ctx, conn, r)
		})
	}
	group.Wait()
	wake(u.hello) // which is coalesced, and skipped when there is no news
	for _, err := range errs {
		if err != nil {
			return err // one says it for all: they share the link and the stream
		}
	}
	return nil
}

// publishAttempt publishes one attempt's events strictly in order: the next one
// goes out when the stream has taken the one before, since the coordinator
// takes a lower number that comes later for a repeat.
func (u *Uplink) publishAttempt(ctx context.Context, conn *nats.Conn, r attempt.Record) error {
	for {
		after := max(r.Stored, u.ledger.upTo(r.Key))
		events, err := u.options.Journal.Events(r.Key, after, publishBatch)
		if err != nil || len(events) == 0 {
			return err
		}
		for _, event := range events {
			if event.Type == job.EventFinished {
				fault.Point(fault.FinishedJournaled)
			}
			if err := u.publishEvent(ctx, conn, event); err != nil {
				return fmt.Errorf("event %s: %w", bus.EventID(event), err)
			}
			if event.Type == job.EventFinished {
				fault.Point(fault.FinishedPublished)
			}
			u.ledger.ack(r.Key, event.Seq, time.Now())
		}
	}
}

func (u *Uplink) publishEvent(ctx context.Context, conn *nats.Conn, event bus.Event) error {
	data, err := json.Marshal(event)
	if err != nil {
		return err
	}
	msg := nats.NewMsg(bus.EventSubject(u.options.Host, event.Job))
	msg.Header.Set(nats.MsgIdHdr, bus.EventID(event))
	msg.Data = data
	reply, err := u.request(ctx, conn, msg)
	if err != nil {
		return err
	}
	return taken(reply.Data)
}

// taken reads a stream's acknowledgement (JetStream's PubAck).
func taken(data []byte) error {
	var ack struct {
		Stream string `json:"stream"`
		Error  *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return fmt.Errorf("decode the stream's answer: %w", err)
	}
	if ack.Error != nil {
		return fmt.Errorf("the stream refused it: %s (%d)", ack.Error.Description, ack.Error.Code)
	}
	if ack.Stream == "" {
		return errors.New("the answer does not come from a stream")
	}
	return nil
}

// backoff is exponential with jitter of a half.
func backoff(failures int, least, most time.Duration) time.Duration {
	wait := min(least<<min(failures, 16), most)
	return wait/2 + rand.N(wait/2+1)
}
