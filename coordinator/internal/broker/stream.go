package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Settings of the stream of events.
const (
	defaultStreamBytes = 1 << 30
	streamAge          = 30 * 24 * time.Hour
	duplicateWindow    = 24 * time.Hour
	maxAckPending      = 256
	ackWait            = time.Minute
	trimInterval       = time.Minute
	streamTimeout      = 30 * time.Second // recovering a large stream takes a while
)

// openStream says what the stream is like. A full stream refuses events, so that
// agents keep them, rather than dropping old ones.
func (b *Broker) openStream(options Options) (err error) {
	if b.js, err = jetstream.New(b.Stream()); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	replicas := 1
	if options.External != nil {
		replicas = max(replicas, options.External.Replicas)
	}
	b.stream = jetstream.StreamConfig{
		Name:        bus.StreamName,
		Description: "events of agents until the coordinator has stored them",
		Subjects:    []string{bus.StreamSubjects},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    options.StreamMaxBytes,
		MaxAge:      streamAge,
		MaxMsgSize:  maxPayload,
		Duplicates:  duplicateWindow,
		Storage:     jetstream.FileStorage,
		Replicas:    replicas,
	}
	return nil
}

// makeStream makes sure of the stream: an external cluster may have been away
// at the start, or have lost it since.
func (b *Broker) makeStream(ctx context.Context) error {
	if err := b.connected(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	if _, err := b.js.CreateOrUpdateStream(ctx, b.stream); err != nil {
		return fmt.Errorf("make stream %s: %w", bus.StreamName, err)
	}
	return nil
}

// Consumer returns the durable consumer so that it delivers, in order, all that
// the coordinator has not stored: what comes after the given place in the
// stream, the last one that it has stored, and after what the consumer has
// acknowledged. Both must say so. The consumer may be ahead of the store, when
// one of them was restored from a backup or lost power; and the place may be
// one in a stream that was lost, which says nothing about the events of a new
// one. It certainly is when it lies beyond the stream's end, or when there is
// no consumer: then all is delivered. What comes again is known to the
// coordinator. Where the consumer would not begin there, it is made anew, so
// that what was delivered but not stored comes at once and before anything
// later.
func (b *Broker) Consumer(ctx context.Context, after uint64) (jetstream.Consumer, error) {
	b.streaming.Lock()
	defer b.streaming.Unlock()
	if err := b.makeStream(ctx); err != nil {
		return nil, err
	}
	stream, err := b.js.Stream(ctx, bus.StreamName)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", bus.StreamName, err)
	}
	if last := stream.CachedInfo().State.LastSeq; after > last {
		b.logger.Warn("the stream of events is older than the store: reading it from its beginning", "stored", after, "last", last)
		after = 0
	}
	consumer, err := stream.Consumer(ctx, bus.ConsumerName)
	switch {
	case err == nil && agrees(consumer.CachedInfo(), after):
		return consumer, nil
	case err == nil:
		after = min(after, consumer.CachedInfo().AckFloor.Stream)
		err = stream.DeleteConsumer(ctx, bus.ConsumerName)
	default:
		after = 0
	}
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("consumer of stream %s: %w", bus.StreamName, err)
	}
	consumer, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       bus.ConsumerName,
		Description:   "stores events in the coordinator",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: maxAckPending,
		MaxDeliver:    -1,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   after + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("make consumer of stream %s: %w", bus.StreamName, err)
	}
	return consumer, nil
}

// agrees reports whether a consumer would deliver exactly what comes after a
// place in the stream.
func agrees(info *jetstream.ConsumerInfo, after uint64) bool {
	return info.Config.MaxAckPending == maxAckPending && info.Config.AckWait == ackWait &&
		info.AckFloor.Stream == after && info.Delivered.Stream == after && info.NumAckPending == 0
}

// trim keeps the stream from filling up with events that are stored already.
// Ids of removed events are still recognised as repeats.
func (b *Broker) trim(ctx context.Context, maxBytes int64) {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := b.Trim(ctx, uint64(maxBytes)/2); err != nil && ctx.Err() == nil {
				b.logger.Warn("trimming the stream of events", "err", err)
			}
		}
	}
}

// Trim removes stored events from the stream if it holds more than the given
// number of bytes.
func (b *Broker) Trim(ctx context.Context, above uint64) error {
	stream, err := b.js.Stream(ctx, bus.StreamName)
	if err != nil {
		return fmt.Errorf("stream %s: %w", bus.StreamName, err)
	}
	held := stream.CachedInfo().State.Bytes
	if held <= above {
		return nil
	}
	consumer, err := stream.Consumer(ctx, bus.ConsumerName)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil // nothing was stored yet
	}
	if err != nil {
		return fmt.Errorf("consumer of stream %s: %w", bus.StreamName, err)
	}
	floor := consumer.CachedInfo().AckFloor.Stream
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
		return fmt.Errorf("purge stream %s: %w", bus.StreamName, err)
	}
	b.logger.Info("removed stored events from the stream", "up_to", floor, "bytes", held)
	return nil
}
