package linktest

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func (s *scene) orderedOnce() {
	release, order := s.hold(), s.backup()
	s.accepted(order)
	s.begins(order)
	s.accepted(order)
	s.core.until("progress passes", func() bool { return s.core.progress[keyOf(order)].NFiles == 42 })
	release()
	end := s.ends(order, job.Succeeded)
	if end.Result == nil || end.Result.NFiles != 42 || end.Host != s.Host {
		s.t.Errorf("it ended with %+v", end)
	}
	s.accepted(order)
	s.ranOnce()
}

func (s *scene) refused() {
	order := s.order(job.Backup, `{"paths":["not absolute"]}`)
	first, second := s.send(order), s.send(order)
	for _, reply := range []bus.OrderReply{first, second} {
		if reply.Accepted || reply.Failure == nil || reply.Failure.Code != first.Failure.Code {
			s.t.Errorf("order answered with %+v", reply)
		}
	}
	if end := s.ends(order, job.Failed); end.Failure == nil || end.Failure.Code != first.Failure.Code {
		s.t.Errorf("it ended with %v, and was answered with %v", end.Failure, first.Failure)
	}
	if s.starts() != nil {
		s.t.Error("borg was started")
	}
}

func (s *scene) anotherInstance() {
	order := s.backup()
	if !s.Link().Present(s.t.Context(), s.Host, order.Instance) {
		s.t.Error("the host's present run is not there")
	}
	if s.Link().Present(s.t.Context(), s.Host, "another") {
		s.t.Error("another run is there")
	}
	order.Instance = "another"
	if reply, err := s.Link().Order(s.t.Context(), s.Host, order); err == nil {
		s.t.Errorf("an order for another run was answered with %+v", reply)
	}
	good := s.backup()
	s.accepted(good)
	s.ends(good, job.Succeeded)
	s.ranOnce()
}

func (s *scene) unknownHost() {
	order := s.backup()
	order.Host = "nobody"
	if _, err := s.Link().Order(s.t.Context(), "nobody", order); !isAway(err) {
		s.t.Errorf("order: %v", err)
	}
	if _, err := s.Link().Cancel(s.t.Context(), "nobody", bus.Cancel{Job: order.Job, Attempt: 1}); !isAway(err) {
		s.t.Errorf("cancellation: %v", err)
	}
	if s.Link().Present(s.t.Context(), "nobody", order.Instance) {
		s.t.Error("it is there")
	}
}

func (s *scene) away() {
	order := s.backup()
	s.Cut()
	s.core.until("the host is gone", func() bool { return !s.core.online[s.Host] })
	if _, err := s.Link().Order(s.t.Context(), s.Host, order); !isAway(err) {
		s.t.Errorf("order: %v", err)
	}
	s.Mend()
	s.back()
	s.accepted(order)
	s.ends(order, job.Succeeded)
	s.ranOnce()
}

// back waits until the host has said hello again.
func (s *scene) back() {
	s.t.Helper()
	s.core.change(func() { s.core.hello = bus.Hello{} })
	s.core.until("the host is back", func() bool { return s.core.hello.Instance != "" && !s.core.hello.Away })
}

func (s *scene) cancel(order bus.Order) {
	s.t.Helper()
	if reply, err := s.Link().Cancel(s.t.Context(), s.Host, bus.Cancel{Job: order.Job, Attempt: order.Attempt}); err != nil || reply.Stamp.Journal == "" {
		s.t.Fatalf("cancellation answered with %+v, %v", reply, err)
	}
}

func (s *scene) cancelledBefore() {
	order := s.backup()
	s.cancel(order)
	s.send(order)
	s.ends(order, job.Cancelled)
	s.send(order)
	if s.starts() != nil {
		s.t.Error("borg was started")
	}
}

func (s *scene) cancelledWhile() {
	s.hold()
	order := s.backup()
	s.accepted(order)
	s.begins(order)
	s.cancel(order)
	s.cancel(order)
	s.ends(order, job.Cancelled)
	s.ranOnce()
}

func (s *scene) cancelledByVerdict() {
	s.hold()
	order := s.backup()
	s.accepted(order)
	s.begins(order)
	s.core.change(func() { s.core.stop[keyOf(order)] = true })
	s.Cut() // the host says hello when it is back
	s.core.until("the host is gone", func() bool { return !s.core.online[s.Host] })
	s.Mend()
	s.ends(order, job.Cancelled)
	s.ranOnce()
}

func (s *scene) cancelledAfter() {
	order := s.backup()
	s.accepted(order)
	s.ends(order, job.Succeeded)
	told := s.core.count(order)
	s.cancel(order)
	if s.send(order); s.core.count(order) != told {
		s.t.Error("a cancellation of what is over was told")
	}
	s.ranOnce()
}

func (s *scene) restarted() {
	release, order := s.hold(), s.backup()
	s.accepted(order)
	s.begins(order)
	s.RestartHost()
	s.back()
	if s.RestartCoordinator != nil {
		s.RestartCoordinator()
		s.back()
	}
	again := s.backup()
	again.Job = order.Job // for the new run
	s.accepted(again)
	release()
	s.ends(order, job.Succeeded)
	s.whole(order)
	s.ranOnce()
}

// whole checks that the lines of the log are there, once.
func (s *scene) whole(order bus.Order) {
	s.t.Helper()
	var lines []string
	s.core.mu.Lock()
	for _, e := range s.core.events[keyOf(order)] {
		for _, line := range e.Lines {
			lines = append(lines, line.Text)
		}
	}
	s.core.mu.Unlock()
	if got := strings.Join(lines, ","); strings.Count(got, "first") != 1 || strings.Count(got, "last") != 1 {
		s.t.Errorf("the log is %q", got)
	}
}

func (s *scene) endsAway() {
	release, order := s.hold(), s.backup()
	s.accepted(order)
	s.begins(order)
	s.Cut()
	release()
	s.Mend()
	s.ends(order, job.Succeeded)
	s.whole(order)
	s.ranOnce()
}

func (s *scene) endsUnstored() {
	release, order := s.hold(), s.backup()
	s.accepted(order)
	s.begins(order)
	s.core.fail(true)
	told := s.core.count(order)
	release()
	s.RestartHost()
	if s.RestartCoordinator != nil {
		s.RestartCoordinator()
	}
	if s.core.count(order) != told {
		s.t.Error("something was stored")
	}
	s.core.fail(false)
	s.ends(order, job.Succeeded)
	s.whole(order)
	s.ranOnce()
}

func (s *scene) forgotten() {
	order := s.backup()
	s.accepted(order)
	s.ends(order, job.Succeeded)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); ; <-tick.C {
		reply := s.send(order)
		if reply.Over != nil && reply.Accepted && reply.Over.State == job.Succeeded {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("answered with %+v", reply)
		}
	}
	s.ranOnce()
}

func (s *scene) streamed() {
	order := s.order(job.List, `{"archive":"now"}`)
	s.accepted(order)
	stream := s.Link().Stream(s.t.Context(), s.Host, order.Job, order.Attempt)
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	count := 0
	for lines.Scan() {
		count++
		if want := fmt.Sprintf(`{"path": "file %d"}`, count); lines.Text() != want {
			s.t.Fatalf("line %d is %q", count, lines.Text())
		}
	}
	if err := lines.Err(); err != nil || count != listed {
		s.t.Errorf("%d lines of %d, %v", count, listed, err)
	}
	s.ends(order, job.Succeeded)
}

func (s *scene) streamless() {
	order := s.order(job.List, `{"archive":"now"}`)
	s.lost(s.Link().Stream(s.t.Context(), s.Host, order.Job, order.Attempt))
}

// lost expects that there is nothing more to read.
func (s *scene) lost(stream io.ReadCloser) {
	s.t.Helper()
	defer stream.Close()
	_, err := io.Copy(io.Discard, stream)
	if failure := job.AsFailure(err); err == nil || failure.Code != job.ConnectionLost {
		s.t.Errorf("the stream ended with %v", err)
	}
}

func (s *scene) streamLost() {
	order := s.order(job.List, `{"archive":"now"}`)
	s.accepted(order)
	stream := s.Link().Stream(s.t.Context(), s.Host, order.Job, order.Attempt)
	if _, err := io.ReadFull(stream, make([]byte, 10)); err != nil {
		s.t.Fatal(err)
	}
	s.RestartHost()
	s.lost(stream)
	if end := s.ends(order, job.Failed); end.Failure == nil || end.Failure.Code != job.ConnectionLost {
		s.t.Errorf("it ended with %v", end.Failure)
	}
}
