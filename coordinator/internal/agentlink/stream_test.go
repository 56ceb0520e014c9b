package agentlink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const streamed job.ID = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"

// source is a host whose borg prints some bytes.
type source struct {
	connection *nats.Conn
	length     int64
	fill       func(piece int64, data []byte) // what it prints; deterministic
	before     func(bus.Read) *bus.Piece      // may answer in its place, or say nothing with silence; nil: it goes on

	mu      sync.Mutex
	asked   []int64
	changed chan struct{}
}

// silence, from a source's before, means that there is no answer.
var silence = &bus.Piece{}

func noise(piece int64, data []byte) {
	random := rand.NewChaCha8([32]byte{byte(piece), byte(piece >> 8)})
	_, _ = random.Read(data) // never fails
}

func (s *source) piece(number int64) bus.Piece {
	begin := number * bus.PieceBytes
	if begin > s.length {
		return bus.Piece{State: bus.PieceGone, Piece: number}
	}
	p := bus.Piece{State: bus.PieceMore, Piece: number, Data: make([]byte, min(bus.PieceBytes, s.length-begin))}
	s.fill(number, p.Data)
	if begin+int64(len(p.Data)) == s.length {
		p.State = bus.PieceLast
	}
	return p
}

func (s *source) all() []byte {
	var whole []byte
	for number := int64(0); ; number++ {
		p := s.piece(number)
		whole = append(whole, p.Data...)
		if p.State == bus.PieceLast {
			return whole
		}
	}
}

// serve answers questions on the host's connection.
func (s *source) serve(t testing.TB, connection *nats.Conn) {
	t.Helper()
	s.changed = make(chan struct{})
	if s.fill == nil {
		s.fill = noise
	}
	_, err := connection.Subscribe(bus.ReadSubject("web1"), func(m *nats.Msg) {
		var read bus.Read
		if err := json.Unmarshal(m.Data, &read); err != nil || read.Job != streamed || read.Attempt != 2 || !bus.FromCoordinator(m.Reply) {
			t.Errorf("question %s with reply to %s (%v)", m.Data, m.Reply, err)
		}
		s.mu.Lock()
		s.asked = append(s.asked, read.Piece)
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		var answer *bus.Piece
		if s.before != nil {
			answer = s.before(read)
		}
		if answer == silence {
			return
		}
		if answer == nil {
			p := s.piece(read.Piece)
			answer = &p
		}
		_ = m.Respond(answer.Append(nil)) // a connection that is cut is part of the tests
	})
	if err := errors.Join(err, connection.FlushTimeout(patience)); err != nil {
		t.Fatal(err)
	}
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// untilAsked waits for so many questions.
func (s *source) untilAsked(t testing.TB, count int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		asked, changed := len(s.asked), s.changed
		s.mu.Unlock()
		if asked >= count {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("asked %d times; want %d", asked, count)
		}
	}
}

func newStream(t testing.TB, s *source) (*agentlink.Link, *broker.Broker) {
	t.Helper()
	b := startBroker(t, t.TempDir())
	link := agentlink.New(b.Agents(), b.Signer())
	link.HurryStreams(200*time.Millisecond, patience, patience)
	s.connection = connect(t, b, "web1")
	s.serve(t, s.connection)
	return link, b
}

func TestStreamIsWhole(t *testing.T) {
	for name, length := range map[string]int64{
		"nothing": 0, "a byte": 1, "a piece": bus.PieceBytes, "a piece and a byte": bus.PieceBytes + 1,
		"many": 40*bus.PieceBytes + 4711, "many whole ones": 20 * bus.PieceBytes,
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{length: length}
			link, _ := newStream(t, s)
			stream := link.Stream(t.Context(), "web1", streamed, 2)
			defer stream.Close()
			if err := iotest.TestReader(stream, s.all()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStreamSurvives plays what may go wrong with single questions and answers.
func TestStreamSurvives(t *testing.T) {
	answer := func(p bus.Piece) *bus.Piece { return &p }
	for name, fault := range map[string]func(bus.Read) *bus.Piece{
		"lost answers":         func(bus.Read) *bus.Piece { return silence },
		"borg takes its time":  func(r bus.Read) *bus.Piece { return answer(bus.Piece{State: bus.PieceLater, Piece: r.Piece}) },
		"answers of no state":  func(r bus.Read) *bus.Piece { return answer(bus.Piece{State: '?', Piece: r.Piece}) },
		"answers of the wrong": func(r bus.Read) *bus.Piece { return answer(bus.Piece{State: bus.PieceLast, Piece: r.Piece + 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{length: 30*bus.PieceBytes + 1}
			random := rand.New(rand.NewPCG(1, 2))
			s.before = func(r bus.Read) *bus.Piece {
				if random.IntN(4) == 0 {
					return fault(r)
				}
				return nil
			}
			link, _ := newStream(t, s)
			stream := link.Stream(t.Context(), "web1", streamed, 2)
			defer stream.Close()
			got, err := io.ReadAll(stream)
			if err != nil || !bytes.Equal(got, s.all()) {
				t.Errorf("%d bytes (%v); want the %d of the source", len(got), err, s.length)
			}
			if s.count() <= 31 {
				t.Errorf("asked %d times: nothing went wrong", s.count())
			}
		})
	}
}

func TestStreamGoesOnWhenItsHostIsBack(t *testing.T) {
	s, cut := &source{length: 60 * bus.PieceBytes}, make(chan struct{})
	s.before = func(r bus.Read) *bus.Piece {
		if r.Piece == 20 {
			close(cut)
			s.connection.Close()
			return silence
		}
		return nil
	}
	link, b := newStream(t, s)
	stream := link.Stream(t.Context(), "web1", streamed, 2)
	defer stream.Close()
	whole := make(chan []byte, 1)
	go func() {
		data, err := io.ReadAll(stream)
		if err != nil {
			t.Errorf("after %d bytes: %v", len(data), err)
		}
		whole <- data
	}()
	<-cut
	again := &source{length: s.length}
	again.serve(t, connect(t, b, "web1"))
	if got := <-whole; !bytes.Equal(got, s.all()) {
		t.Errorf("%d bytes, not those of the source", len(got))
	}
	if s.count()+again.count() < 61 || again.count() < 40 {
		t.Errorf("%d and %d questions", s.count(), again.count())
	}
}

func TestStreamEndsWithWhatIsWrong(t *testing.T) {
	gone := func(r bus.Read) *bus.Piece {
		if r.Piece >= 5 {
			return &bus.Piece{State: bus.PieceGone, Piece: r.Piece}
		}
		return nil
	}
	for name, c := range map[string]struct {
		before func(bus.Read) *bus.Piece
		bytes  int
		code   job.Code
	}{
		"the rest is gone":       {gone, 5 * bus.PieceBytes, job.ConnectionLost},
		"the host does not talk": {func(bus.Read) *bus.Piece { return silence }, 0, job.HostUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{length: 20 * bus.PieceBytes, before: c.before}
			link, _ := newStream(t, s)
			link.HurryStreams(20*time.Millisecond, 100*time.Millisecond, patience)
			stream := link.Stream(t.Context(), "web1", streamed, 2)
			defer stream.Close()
			got, err := io.ReadAll(stream)
			if failure := job.AsFailure(err); failure == nil || failure.Code != c.code || failure.Hint == "" || !failure.Retryable {
				t.Errorf("ended with %+v", failure)
			}
			if len(got) != c.bytes {
				t.Errorf("%d bytes before; want %d", len(got), c.bytes)
			}
			if _, again := stream.Read(make([]byte, 1)); again != err {
				t.Errorf("then %v", again)
			}
		})
	}
	t.Run("no such host", func(t *testing.T) {
		link, _ := newStream(t, &source{})
		link.HurryStreams(patience, 50*time.Millisecond, patience)
		stream := link.Stream(t.Context(), "web2", streamed, 2)
		defer stream.Close()
		if _, err := stream.Read(make([]byte, 1)); job.AsFailure(err).Code != job.HostUnreachable {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestStreamEndsWithItsContext(t *testing.T) {
	s := &source{length: 1 << 40, fill: func(int64, []byte) {}}
	s.before = func(r bus.Read) *bus.Piece {
		if r.Piece > 0 {
			return silence
		}
		return nil
	}
	link, _ := newStream(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	stream := link.Stream(ctx, "web1", streamed, 2)
	if _, err := io.ReadFull(stream, make([]byte, bus.PieceBytes)); err != nil {
		t.Fatal(err)
	}
	why := errors.New("nobody wants it any more")
	time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, why) {
		t.Errorf("ended with %v", err)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("a closed stream can be read")
	}
}

// TestASlowReaderHoldsTheHostBack: no more is asked for than is agreed, and the
// host learns that its reader is still there.
func TestASlowReaderHoldsTheHostBack(t *testing.T) {
	s := &source{length: 1 << 40, fill: func(int64, []byte) {}}
	link, _ := newStream(t, s)
	link.HurryStreams(patience, patience, 20*time.Millisecond)
	stream := link.Stream(t.Context(), "web1", streamed, 2)
	defer stream.Close()
	const taken = 10
	if _, err := io.ReadFull(stream, make([]byte, taken*bus.PieceBytes)); err != nil {
		t.Fatal(err)
	}
	ahead := taken + bus.PiecesAhead
	s.untilAsked(t, ahead+3) // three of them to say that somebody is there
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, piece := range s.asked {
		if piece >= int64(ahead) {
			t.Errorf("question %d was for piece %d, with %d taken", i, piece, taken)
		}
	}
}

// TestHostsThatAreSlowHoldUpNoOthers: what may be on its way is bounded over all
// streams.
func TestHostsThatAreSlowHoldUpNoOthers(t *testing.T) {
	s := &source{length: 50 * bus.PieceBytes}
	link, b := newStream(t, s)
	mute := connect(t, b, "mute")
	if _, err := mute.Subscribe(bus.ReadSubject("mute"), func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := mute.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	link.HurryStreams(patience, patience, patience)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range 40 {
		readers.Go(func() {
			stream := link.Stream(ctx, "mute", streamed, 1)
			defer stream.Close()
			_, _ = stream.Read(make([]byte, 1)) // ends with the context
		})
	}
	stream := link.Stream(t.Context(), "web1", streamed, 2)
	defer stream.Close()
	if got, err := io.ReadAll(stream); err != nil || int64(len(got)) != s.length {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
}
