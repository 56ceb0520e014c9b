package worker_test

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// streaming is a worker that has an order whose output is a pipe of the test.
type streaming struct {
	*fixture
	key   attempt.Key
	print *os.File // borg's standard output
}

// newStreaming orders a job that streams; the times are those of f.
func (f *fixture) newStreaming(kind job.Kind, spec job.Spec) *streaming {
	f.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = read.Close() // maybe closed already
		_ = write.Close()
	})
	order := f.order()
	encoded, err := json.Marshal(spec)
	if err != nil {
		f.t.Fatal(err)
	}
	order.Kind, order.Spec, order.Archive = kind, encoded, ""
	s := &streaming{fixture: f, key: attempt.KeyOf(order), print: write}
	f.engine.mu.Lock()
	f.engine.outputs[s.key.String()] = read
	f.engine.mu.Unlock()
	if reply := f.send(order); !reply.Accepted {
		f.t.Fatalf("answer %+v", reply)
	}
	return s
}

// files is a worker that lists the files of an archive.
func files(t *testing.T, change func(*fixture)) *streaming {
	t.Helper()
	f := newFixture(t)
	f.wait = 50 * time.Millisecond
	if change != nil {
		change(f)
	}
	f.start()
	return f.newStreaming(job.List, job.ListSpec{Archive: "a"})
}

// ask returns the first answer that is not "later".
func (s *streaming) ask(n int64) bus.Piece {
	s.t.Helper()
	var piece bus.Piece
	patience.Until(s.t, "an answer", func() bool {
		piece = s.worker.Read(s.t.Context(), bus.Read{Job: s.key.Job, Attempt: s.key.Number, Piece: n})
		return piece.State != bus.PieceLater
	})
	if piece.Piece != n {
		s.t.Errorf("piece %d was asked for, %d came", n, piece.Piece)
	}
	return piece
}

func (s *streaming) expect(n int64, state bus.PieceState, size int) {
	s.t.Helper()
	if got := s.ask(n); got.State != state || len(got.Data) != size {
		s.t.Errorf("piece %d is %c with %d bytes; want %c with %d", n, got.State, len(got.Data), state, size)
	}
}

// say prints, as borg, while somebody reads.
func (s *streaming) say(data []byte) {
	go func() {
		_, _ = s.print.Write(data)
		_ = s.print.Close()
	}()
}

func noise(n int) []byte {
	data, random := make([]byte, n), rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data) // never fails
	return data
}

// failure is the one with which the attempt ended.
func (s *streaming) failure() *job.Failure {
	s.t.Helper()
	events, err := s.journal.Events(s.key, 0, 100)
	if err != nil || len(events) == 0 {
		s.t.Fatalf("events %v, %v", events, err)
	}
	return events[len(events)-1].Failure
}

func TestPiecesComeInOrderWhateverIsAskedFirst(t *testing.T) {
	s := files(t, nil)
	data := noise(40*bus.PieceBytes + 1000)
	s.say(data)
	var got bytes.Buffer
	for first, over := int64(0), false; !over; first += bus.PiecesAhead {
		answers := make([]bus.Piece, bus.PiecesAhead)
		var asking sync.WaitGroup
		for i := len(answers) - 1; i >= 0; i-- { // backwards, and side by side
			asking.Go(func() { answers[i] = s.ask(first + int64(i)) })
		}
		asking.Wait()
		for _, a := range answers {
			got.Write(a.Data)
			over = over || a.State == bus.PieceLast
		}
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d bytes came of %d, or others", got.Len(), len(data))
	}
	s.engine.finish(t, s.key, job.Succeeded)
	s.awaitEnd(s.key, "accepted", "started", "succeeded")
	s.expect(40, bus.PieceLast, 1000) // again, and behind the end
	s.expect(41, bus.PieceLast, 0)
}

func TestPiecesAreRepeatedAndDropped(t *testing.T) {
	s := files(t, nil)
	s.say(make([]byte, 100*bus.PieceBytes))
	const kept = 2 * bus.PiecesAhead
	for n := range int64(kept + 1) {
		s.expect(n, bus.PieceMore, bus.PieceBytes)
	}
	s.expect(kept, bus.PieceMore, bus.PieceBytes)
	s.expect(1, bus.PieceMore, bus.PieceBytes)
	s.expect(0, bus.PieceGone, 0) // dropped: whoever asks for it cannot go on
	s.expect(kept, bus.PieceGone, 0)
	s.awaitEnd(s.key, "accepted", "started", "failed")
	if f := s.failure(); f.Code != job.ConnectionLost || !f.Retryable || f.Hint == "" {
		t.Errorf("failure %+v", f)
	}
	s.expect(kept, bus.PieceGone, 0)
}

func TestBorgWaitsForItsReader(t *testing.T) {
	s := files(t, nil)
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = s.print.Write(make([]byte, 2*bus.PieceBytes))
		_ = s.print.Close()
	}()
	s.expect(0, bus.PieceMore, bus.PieceBytes)
	select {
	case <-written:
		t.Error("it was read ahead of the questions")
	default:
	}
	s.expect(1, bus.PieceMore, bus.PieceBytes)
	<-written
	s.expect(2, bus.PieceLast, 0)
}

func TestSilenceIsLater(t *testing.T) {
	s := files(t, nil)
	read := bus.Read{Job: s.key.Job, Attempt: s.key.Number}
	if got := s.worker.Read(t.Context(), read); got.State != bus.PieceLater {
		t.Errorf("nothing is %c", got.State)
	}
	if _, err := io.WriteString(s.print, "a part"); err != nil {
		t.Fatal(err)
	}
	if got := s.worker.Read(t.Context(), read); got.State != bus.PieceLater {
		t.Errorf("a part is %c", got.State)
	}
	if err := s.print.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.ask(0); got.State != bus.PieceLast || string(got.Data) != "a part" {
		t.Errorf("all of it is %c, %q", got.State, got.Data)
	}
}

func TestNobodyReads(t *testing.T) {
	for name, test := range map[string]struct {
		kind  job.Kind
		spec  job.Spec
		retry bool
	}{
		"list":     {job.List, job.ListSpec{Archive: "a"}, true},
		"download": {job.Download, job.DownloadSpec{Archive: "a", Path: "etc"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.wait, f.idle = 10*time.Millisecond, 30*time.Millisecond
			s := f.start().newStreaming(test.kind, test.spec)
			s.awaitEnd(s.key, "accepted", "started", "failed")
			if f := s.failure(); f.Code != job.ConnectionLost || f.Retryable != test.retry {
				t.Errorf("failure %+v", f)
			}
			if _, err := s.print.Write([]byte("x")); err == nil {
				t.Error("somebody reads")
			}
			s.expect(0, bus.PieceGone, 0)
		})
	}
}

// What borg has printed at its end is there for as long as somebody asks.
func TestRestIsReadAfterTheEnd(t *testing.T) {
	s := files(t, func(f *fixture) { f.idle = 500 * time.Millisecond })
	if _, err := io.WriteString(s.print, "rest"); err != nil {
		t.Fatal(err)
	}
	s.engine.finish(t, s.key, job.Succeeded)
	// Somebody else holds borg's output open: it is over all the same.
	if got := s.ask(0); got.State != bus.PieceLast || string(got.Data) != "rest" {
		t.Errorf("the rest is %c, %q", got.State, got.Data)
	}
	s.awaitEnd(s.key, "accepted", "started", "succeeded")
	if got := s.ask(0); got.State != bus.PieceLast || string(got.Data) != "rest" {
		t.Errorf("the rest is %c, %q, when asked for again", got.State, got.Data)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	patience.Until(t, "it is forgotten when nobody asks", func() bool {
		<-tick.C
		return s.worker.Read(t.Context(), bus.Read{Job: s.key.Job, Attempt: s.key.Number}).State == bus.PieceGone
	})
}

// A short output fits into the pipe, so that borg ends well although nobody has
// read it. The attempt does not.
func TestNobodyReadsWhatBorgCouldFinish(t *testing.T) {
	s := files(t, func(f *fixture) { f.idle = 100 * time.Millisecond })
	if _, err := io.WriteString(s.print, "all of it"); err != nil {
		t.Fatal(err)
	}
	s.engine.finish(t, s.key, job.Succeeded)
	s.awaitEnd(s.key, "accepted", "started", "failed")
	if f := s.failure(); f.Code != job.ConnectionLost || !f.Retryable {
		t.Errorf("failure %+v", f)
	}
}

func TestReaderIsAskedBeforeBorgHasItsSlot(t *testing.T) {
	f := newFixture(t)
	f.wait = 10 * time.Millisecond
	f.start()
	before := f.order()
	f.send(before)
	patience.Until(t, "it has the slot", func() bool { return len(f.engine.ids()) == 1 })
	s := f.newStreaming(job.List, job.ListSpec{Archive: "a"})
	for range 3 {
		if got := s.worker.Read(t.Context(), bus.Read{Job: s.key.Job, Attempt: s.key.Number}); got.State != bus.PieceLater {
			t.Fatalf("before the start: %c", got.State)
		}
	}
	f.engine.finish(t, attempt.KeyOf(before), job.Succeeded)
	s.say([]byte("text"))
	s.expect(0, bus.PieceLast, 4)
}

// An agent that was started again has lost what borg printed meanwhile, and
// must not let it pass for the beginning.
func TestRestartLosesTheReader(t *testing.T) {
	s := files(t, nil)
	patience.Until(t, "it runs", func() bool { return len(s.engine.ids()) == 1 })
	s.stop()
	s.runs.ids = []string{s.key.String()}
	s.start()
	s.expect(0, bus.PieceGone, 0)
	s.awaitEnd(s.key, "accepted", "started", "failed")
	if f := s.failure(); f.Code != job.ConnectionLost {
		t.Errorf("failure %+v", f)
	}
}

func TestCancelledWhileItStreams(t *testing.T) {
	s := files(t, nil)
	patience.Until(t, "it runs", func() bool { return len(s.engine.ids()) == 1 })
	s.cancel(s.key)
	s.awaitEnd(s.key, "accepted", "started", "cancelled")
	patience.Until(t, "nobody reads any more", func() bool {
		_, err := s.print.Write([]byte("x"))
		return err != nil
	})
	s.expect(0, bus.PieceGone, 0)
}

func TestNothingToRead(t *testing.T) {
	f := newFixture(t).start()
	order := f.order() // a backup
	f.send(order)
	for name, read := range map[string]bus.Read{
		"unknown":  {Job: job.NewID(time.Now()), Attempt: 1},
		"a backup": {Job: order.Job, Attempt: 1},
		"another":  {Job: order.Job, Attempt: 2},
		"negative": {Job: order.Job, Attempt: 1, Piece: -1},
	} {
		if got := f.worker.Read(t.Context(), read); got.State != bus.PieceGone {
			t.Errorf("%s: %c", name, got.State)
		}
	}
}
