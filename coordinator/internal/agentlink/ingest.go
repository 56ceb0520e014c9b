package agentlink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
)

// Settings of the ingest.
const (
	batchEvents = 256
	batchBytes  = 2 << 20 // below what the bus lets a slow reader owe
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 5 * time.Second
)

// ingest reads the stream until ctx ends, and begins again from the stored
// place when that fails.
func (r *Receiver) ingest(ctx context.Context) {
	backoff := minBackoff
	for {
		begun := time.Now()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > maxBackoff {
			backoff = minBackoff
		}
		r.logger.Warn("reading the stream of events again", "in", backoff, "err", err)
		backoff = wait(ctx, backoff)
	}
}

// follow reads the stream and stores what comes, until it fails.
func (r *Receiver) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	consumer, err := r.Stream.Consumer(ctx, r.Ingest.StreamPosition())
	if err != nil {
		return err
	}
	left := int(consumer.CachedInfo().NumPending) // it was made, or looked at, just now
	if left == 0 {
		r.Ingest.CaughtUp()
	}
	messages, broken := make(chan jetstream.Msg, batchEvents), make(chan error, 1)
	consuming, err := consumer.Consume(
		func(message jetstream.Msg) {
			select {
			case messages <- message:
			case <-ctx.Done():
			}
		},
		jetstream.PullMaxMessagesWithBytesLimit(batchEvents, batchBytes),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { r.judge(err, broken) }),
	)
	if err != nil {
		return fmt.Errorf("consume stream %s: %w", bus.StreamName, err)
	}
	defer consuming.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return err
		case first := <-messages:
			batch := gather(first, messages)
			if err := r.store(ctx, batch); err != nil {
				return err
			}
			if left > 0 && left <= len(batch) {
				r.Ingest.CaughtUp()
			}
			left -= len(batch)
		}
	}
}

// judge tells faults after which nothing more would come from those that the
// client mends itself.
func (r *Receiver) judge(err error, broken chan<- error) {
	switch {
	case errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, jetstream.ErrConsumerDeleted),
		errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrBadRequest),
		errors.Is(err, nats.ErrNoResponders): // the bus stores nothing now, or has made the consumer anew
		select {
		case broken <- err:
		default:
		}
	default:
		r.logger.Debug("stream of events", "err", err)
	}
}

// gather adds to the first message what is there already. It never waits.
func gather(first jetstream.Msg, messages <-chan jetstream.Msg) []jetstream.Msg {
	batch := []jetstream.Msg{first}
	for len(batch) < batchEvents {
		select {
		case message := <-messages:
			batch = append(batch, message)
		default:
			return batch
		}
	}
	return batch
}

// store hands a batch to the ingest until that succeeds, and acknowledges it.
// It does not go on with later events before, so that the order is kept.
func (r *Receiver) store(ctx context.Context, messages []jetstream.Msg) error {
	events := make([]bus.StreamEvent, 0, len(messages))
	for _, message := range messages {
		event, err := decode(message)
		if err != nil {
			r.logger.Error("event dropped", "subject", message.Subject(), "err", err)
			continue
		}
		events = append(events, event)
	}
	fault.Point(fault.EventRead)
	for backoff := minBackoff; len(events) > 0; {
		err := r.Ingest.HandleEvents(ctx, events)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.logger.Error("events not stored yet", "events", len(events), "again_in", backoff, "err", err)
		backoff = wait(ctx, backoff)
		r.each(messages, jetstream.Msg.InProgress)
	}
	fault.Point(fault.EventStored)
	r.each(messages, jetstream.Msg.Ack)
	return nil
}

// each acknowledges messages in some way. An acknowledgement that is lost only
// brings events again that are known already.
func (r *Receiver) each(messages []jetstream.Msg, acknowledge func(jetstream.Msg) error) {
	for _, message := range messages {
		if err := acknowledge(message); err != nil {
			r.logger.Debug("acknowledging an event", "err", err)
			return
		}
	}
}

// decode reads an event. The subject says which host has sent it, for which job.
func decode(message jetstream.Msg) (bus.StreamEvent, error) {
	host, id, err := bus.StreamSource(message.Subject())
	if err != nil {
		return bus.StreamEvent{}, err
	}
	metadata, err := message.Metadata()
	if err != nil {
		return bus.StreamEvent{}, fmt.Errorf("place in the stream: %w", err)
	}
	event := bus.StreamEvent{Sequence: metadata.Sequence.Stream}
	if err := json.Unmarshal(message.Data(), &event.Event); err != nil {
		return bus.StreamEvent{}, fmt.Errorf("malformed: %w", err)
	}
	if event.Host != host || event.Job != id {
		return bus.StreamEvent{}, fmt.Errorf("it says that it is of host %q and job %q", event.Host, event.Job)
	}
	return event, nil
}

// wait sleeps for the given time or until ctx ends, and returns the next time.
func wait(ctx context.Context, backoff time.Duration) time.Duration {
	timer := time.NewTimer(backoff)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return min(2*backoff, maxBackoff)
}
