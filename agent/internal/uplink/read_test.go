package uplink_test

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// question returns a question for a piece of an attempt.
func question(t *testing.T, attempt int, piece int64) *nats.Msg {
	t.Helper()
	data, err := json.Marshal(bus.Read{Job: job.NewID(time.Now()), Attempt: attempt, Piece: piece})
	if err != nil {
		t.Fatal(err)
	}
	return &nats.Msg{Subject: bus.ReadSubject(host), Data: data}
}

func (f *fixture) read(attempt int, piece int64) bus.Piece {
	f.t.Helper()
	msg, err := f.conn.RequestMsg(question(f.t, attempt, piece), patience.Most)
	if err != nil {
		f.t.Fatalf("read: %v", err)
	}
	answer, err := bus.DecodePiece(msg.Data)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer
}

func TestPiecesAreHandedOut(t *testing.T) {
	f := newFixture(t, quick)
	for n := range int64(3) {
		if got := f.read(1, n); got.State != bus.PieceMore || got.Piece != n || string(got.Data) != strconv.FormatInt(n, 10) {
			t.Errorf("piece %d is %+v", n, got)
		}
	}
	if got := f.read(2, 7); got.State != bus.PieceGone || got.Piece != 7 {
		t.Errorf("of another attempt: %+v", got)
	}
}

// TestWaitingReadersHoldNobodyUp: orders and other readers go on beside them, and
// one too many is asked to come again.
func TestWaitingReadersHoldNobodyUp(t *testing.T) {
	const most = 16 * bus.PiecesAhead
	f := newCoordinator(t)
	f.handler.hold = make(chan struct{})
	hellos := f.answerHellos(keep)
	f.start(quick)
	<-hellos
	answers, err := f.conn.SubscribeSync(bus.PrivateInbox(bus.AgentsConnection) + ".test")
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(most + 1) {
		msg := question(t, 1, n)
		msg.Reply = answers.Subject
		if err := f.conn.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	first, err := answers.NextMsg(patience.Most)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bus.DecodePiece(first.Data); err != nil || got.State != bus.PieceLater {
		t.Errorf("one too many got %+v, %v", got, err)
	}
	if _, err := f.conn.Request(bus.OrderSubject(host), []byte("{}"), patience.Most); err != nil {
		t.Errorf("an order beside them: %v", err)
	}
	close(f.handler.hold)
	for range most {
		msg, err := answers.NextMsg(patience.Most)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := bus.DecodePiece(msg.Data); err != nil || got.State != bus.PieceMore {
			t.Errorf("one that waited got %+v, %v", got, err)
		}
	}
}

func TestOnlyTheCoordinatorReads(t *testing.T) {
	f := newFixture(t, quick)
	other, err := f.conn.SubscribeSync("_INBOX.other.x")
	if err != nil {
		t.Fatal(err)
	}
	msg := question(t, 1, 0)
	msg.Reply = other.Subject
	if err := f.conn.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
	f.read(1, 1) // follows it
	if answer, err := other.NextMsg(50 * time.Millisecond); err == nil {
		t.Errorf("somebody else was answered: %q", answer.Data)
	}
	if err := f.conn.PublishRequest(bus.ReadSubject(host), bus.PrivateInbox(bus.AgentsConnection)+".x", []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	f.read(1, 1) // goes on
}

func TestARefusedAgentHandsOutNothing(t *testing.T) {
	f := newFixture(t, quick)
	f.reply(func(bus.Hello) bus.HelloReply {
		return bus.HelloReply{At: time.Now(), Refused: job.Fail(job.Conflict, "another one is here")}
	})
	patience.Until(t, "the refusal shows", func() bool { return f.uplink.Status().Duplicate })
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if answer, err := f.conn.RequestMsgWithContext(brief, question(t, 1, 0)); err == nil {
		t.Errorf("it answered %q", answer.Data)
	}
}
