package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// ask asks the agent for a piece, as the coordinator does, until it is not later.
func (f *fleet) ask(id job.ID, n int64) bus.Piece {
	f.t.Helper()
	question, err := json.Marshal(bus.Read{Job: id, Attempt: 1, Piece: n})
	if err != nil {
		f.t.Fatal(err)
	}
	var piece bus.Piece
	patience.Until(f.t, fmt.Sprintf("piece %d of %s", n, id), func() bool {
		msg, err := f.conn.Request(bus.ReadSubject(host), question, 10*time.Second)
		if err != nil {
			return false
		}
		if piece, err = bus.DecodePiece(msg.Data); err != nil || piece.Piece != n {
			f.t.Fatalf("piece %d, %v", piece.Piece, err)
		}
		return piece.State != bus.PieceLater
	})
	return piece
}

// drain reads all that a job streams, as many pieces at once as are asked ahead.
func (f *fleet) drain(id job.ID) []byte {
	f.t.Helper()
	var all bytes.Buffer
	for first := int64(0); ; first += bus.PiecesAhead {
		answers := make([]bus.Piece, bus.PiecesAhead)
		var asking sync.WaitGroup
		for i := range answers {
			asking.Go(func() { answers[i] = f.ask(id, first+int64(i)) })
		}
		asking.Wait()
		for _, a := range answers {
			all.Write(a.Data)
			switch a.State {
			case bus.PieceLast:
				return all.Bytes()
			case bus.PieceGone:
				f.t.Fatalf("piece %d of %s is gone", a.Piece, id)
			}
		}
	}
}

// streamed is a fleet with an archive of many files and a large one.
func streamed(t *testing.T) (f *fleet, archive, large string) {
	t.Helper()
	f = newFleet(t)
	for i := range 300 {
		f.write(fmt.Sprintf("source/%04d", i), fmt.Sprint(i), 0o644)
	}
	data, random := make([]byte, 20<<20), rand.NewChaCha8([32]byte{2})
	_, _ = random.Read(data) // never fails
	large = string(data)
	f.write("source/large", large, 0o600)
	f.start()
	f.run(job.Init, job.InitSpec{})
	return f, f.run(job.Backup, job.BackupSpec{Paths: []string{f.path("source")}}).Result.Archive, large
}

func TestListingIsStreamed(t *testing.T) {
	f, archive, _ := streamed(t)
	id, reply := f.order(job.List, job.ListSpec{Archive: archive})
	if !reply.Accepted {
		t.Fatalf("reply %+v", reply)
	}
	listing := f.drain(id)
	end := f.end(id)
	if end.State != job.Succeeded || end.Result == nil || end.Result.Archive != archive {
		t.Errorf("%s, %+v, %+v", end.State, end.Result, end.Failure)
	}
	if lines := bytes.Count(listing, []byte("\n")); lines != 302 || !strings.Contains(string(listing), `/source/0299"`) {
		t.Errorf("%d lines", lines)
	}
}

func TestDownloadIsStreamed(t *testing.T) {
	f, archive, large := streamed(t)
	id, reply := f.order(job.Download, job.DownloadSpec{
		Archive: archive, Path: strings.TrimPrefix(f.path("source/large"), "/"), Format: job.DownloadFile})
	if !reply.Accepted {
		t.Fatalf("reply %+v", reply)
	}
	begun := time.Now()
	if got := f.drain(id); string(got) != large {
		t.Errorf("%d bytes came, or others", len(got))
	}
	t.Logf("%.0f MB/s, with borg's start", float64(len(large))/1e6/time.Since(begun).Seconds())
	if end := f.end(id); end.State != job.Succeeded {
		t.Errorf("%s, %+v", end.State, end.Failure)
	}
}

// TestStreamEndsWithItsAgent: borg must not pass for a success whose output
// nobody has, nor stay behind.
func TestStreamEndsWithItsAgent(t *testing.T) {
	f, archive, _ := streamed(t)
	id, _ := f.order(job.Download, job.DownloadSpec{Archive: archive})
	if first := f.ask(id, 0); first.State != bus.PieceMore {
		t.Errorf("the first piece is %c", first.State)
	}
	f.kill(syscall.SIGKILL)
	f.start()
	if piece := f.ask(id, 1); piece.State != bus.PieceGone {
		t.Errorf("after the restart: %c", piece.State)
	}
	if end := f.end(id); end.State != job.Failed || end.Failure.Code != job.ConnectionLost || end.Failure.Retryable {
		t.Errorf("%s, %+v", end.State, end.Failure)
	}
}
