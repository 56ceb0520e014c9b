package proxy

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// batchEvents bounds what is stored at once.
const batchEvents = 256

// intake stores the events of all hosts. What comes while a batch is being
// stored makes up the next one: the store writes to disk for each.
type intake struct {
	ingest  Ingest
	logger  hclog.Logger
	waiting chan delivery
}

// delivery is what one host has to tell.
type delivery struct {
	events []bus.StreamEvent
	stored chan<- error // has room
}

// run stores until ctx ends.
func (i *intake) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-i.waiting:
			i.store(ctx, i.gather(first))
		}
	}
}

// gather adds to a delivery those that wait already.
func (i *intake) gather(first delivery) []delivery {
	all, count := []delivery{first}, len(first.events)
	for count < batchEvents {
		select {
		case next := <-i.waiting:
			all, count = append(all, next), count+len(next.events)
		default:
			return all
		}
	}
	return all
}

func (i *intake) store(ctx context.Context, all []delivery) {
	var batch []bus.StreamEvent
	for _, d := range all {
		batch = append(batch, d.events...)
	}
	err := i.ingest.HandleEvents(ctx, batch)
	for _, d := range all {
		d.stored <- err
	}
}

// deliver returns when events are stored, or not.
func (i *intake) deliver(ctx context.Context, events []bus.StreamEvent) error {
	stored := make(chan error, 1)
	select {
	case i.waiting <- delivery{events: events, stored: stored}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
