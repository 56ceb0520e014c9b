package uplink

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// maxReads is how many questions for pieces are worked on at once: each may wait
// for borg, or for the one before it.
const maxReads = 16 * bus.PiecesAhead

// serveReads answers questions for pieces, each by itself. One too many is asked
// to come again.
func (u *Uplink) serveReads(ctx context.Context, reads <-chan *nats.Msg) {
	var readers sync.WaitGroup
	defer readers.Wait()
	free := make(chan struct{}, maxReads)
	u.serve(ctx, reads, func(msg *nats.Msg) {
		if !bus.FromCoordinator(msg.Reply) {
			u.logger.Warn("ignored a request that does not come from the coordinator", "subject", msg.Subject)
			return
		}
		var read bus.Read
		if err := json.Unmarshal(msg.Data, &read); err != nil {
			u.logger.Error("decode a question for a piece", "err", err)
			return
		}
		select {
		case free <- struct{}{}:
		default:
			u.hand(msg, bus.Piece{State: bus.PieceLater, Piece: read.Piece})
			return
		}
		readers.Go(func() {
			u.hand(msg, u.options.Handler.Read(ctx, read))
			<-free
		})
	})
}

// hand answers with a piece. A lost one is asked for again.
func (u *Uplink) hand(msg *nats.Msg, piece bus.Piece) {
	room, _ := u.rooms.Get().(*[]byte)
	if room == nil {
		room = new([]byte)
	}
	*room = piece.Append((*room)[:0])
	err := msg.Respond(*room) // it is copied
	u.rooms.Put(room)
	if err != nil {
		u.logger.Debug("answer with a piece", "err", err)
	}
}
