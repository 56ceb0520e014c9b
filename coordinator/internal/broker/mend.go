package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Patience with a server that cannot store.
const (
	mendInterval = time.Second
	maxMendGap   = time.Minute // between tries that did not help
	mendBytes    = 4 << 20     // there must be room for so much, or it would be full again at once
)

// storing returns why the embedded server stores nothing now, or nil.
func (b *Broker) storing() error {
	if b.reopening.Load() {
		return errors.New("embedded NATS server: the stream is being opened again")
	}
	if status := b.server.Healthz(&server.HealthzOptions{}); status.Error != "" {
		return fmt.Errorf("embedded NATS server: %s", status.Error)
	}
	return nil
}

// mend has the embedded server store again. After a write that failed, for
// example because the disk was full, a stream takes nothing more for as long as
// it is open, and JetStream may switch itself off; the server never tries again.
// So JetStream is shut down and opened again as soon as the disk takes writes.
// What the server has confirmed by then is on disk, the rest agents still have.
func (b *Broker) mend(ctx context.Context) {
	ticker := time.NewTicker(mendInterval)
	defer ticker.Stop()
	var broken error
	gap, next := mendInterval, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			err := b.storing()
			switch {
			case err == nil && broken != nil:
				b.logger.Info("the stream of events takes events again")
				broken, gap = nil, mendInterval
				continue
			case err == nil:
				continue
			case broken == nil:
				b.logger.Error("the stream of events takes no events; agents keep theirs until it does", "err", err)
			}
			broken = err
			if now.Before(next) || !b.hasRoom() {
				continue
			}
			if err := b.reopen(ctx); err != nil && ctx.Err() == nil {
				b.logger.Error("opening the stream of events again", "err", err)
			}
			next, gap = now.Add(gap), min(2*gap, maxMendGap)
		}
	}
}

// hasRoom tries whether the disk takes writes.
func (b *Broker) hasRoom() bool {
	file, err := os.CreateTemp(b.dir, ".room-")
	if err != nil {
		return false
	}
	defer os.Remove(file.Name())
	defer file.Close()
	_, err = file.Write(make([]byte, mendBytes))
	return err == nil && file.Sync() == nil
}

// reopen shuts JetStream down and opens it from what is on disk. The consumer is
// made anew and delivers everything: whether it has handed out what then did not
// get to the disk, its place does not say.
func (b *Broker) reopen(ctx context.Context) error {
	b.streaming.Lock()
	defer b.streaming.Unlock()
	b.reopening.Store(true)
	defer b.reopening.Store(false)
	if err := b.server.ShutdownJetStream(); err != nil {
		return fmt.Errorf("shut JetStream down: %w", err)
	}
	if err := b.server.EnableJetStream(&server.JetStreamConfig{StoreDir: b.storeDir(), MaxStore: maxStore(b.stream.MaxBytes)}); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	if err := b.makeStream(ctx); err != nil {
		return err
	}
	if err := b.js.DeleteConsumer(ctx, bus.StreamName, bus.ConsumerName); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove consumer of stream %s: %w", bus.StreamName, err)
	}
	return b.Stream().ForceReconnect() // whoever reads learns of it at once, rather than when it misses heartbeats
}
