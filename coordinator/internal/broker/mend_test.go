package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/job"
)

// try publishes a large event as an agent does, and reports whether the stream
// has confirmed it.
func try(t *testing.T, connection *nats.Conn, id job.ID, seq int) bool {
	t.Helper()
	event := bus.Event{Event: job.Event{Job: id, Host: "web1", Attempt: 1, Seq: seq}, Stamp: bus.Stamp{Journal: "journal"}}
	data, err := json.Marshal(map[string]any{"seq": seq, "filler": bytes.Repeat([]byte("x"), 32<<10)})
	if err != nil {
		t.Fatal(err)
	}
	message := nats.NewMsg(bus.EventSubject("web1", id))
	message.Header.Set(jetstream.MsgIDHeader, bus.EventID(event))
	message.Data = data
	reply, err := connection.RequestMsg(message, time.Second)
	return err == nil && !strings.Contains(string(reply.Data), `"error"`)
}

// untilRefused publishes events, from a number on, until one is refused while
// the broker says that something is wrong. It returns that one's number. An
// answer may also be late.
func untilRefused(t *testing.T, b *broker.Broker, connection *nats.Conn, id job.ID, seq int) int {
	t.Helper()
	eventually(t, func() error {
		for try(t, connection, id, seq) {
			seq++
		}
		if b.Healthy() == nil {
			return errors.New("the stream refuses, and all is said to be well")
		}
		return nil
	})
	return seq
}

// TestAFullDiskEndsByItself: what the stream has confirmed is kept, what it has
// not comes again, and it takes that as soon as there is space.
func TestAFullDiskEndsByItself(t *testing.T) {
	disk := t.TempDir()
	disktest.Mount(t, disk, 32)
	b := start(t, broker.Options{Dir: filepath.Join(disk, "bus")})
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	var confirmed []string
	seq := 1 // of the next event
	tell := func() {
		t.Helper()
		eventually(t, func() error {
			if !try(t, web1, id, seq) {
				return fmt.Errorf("event %d is refused", seq)
			}
			return nil
		})
		confirmed = append(confirmed, fmt.Sprint(seq))
		seq++
	}
	for range 3 { // it is not the first time only
		for range 5 {
			tell()
		}
		free := disktest.Fill(t, disk)
		for seq = untilRefused(t, b, web1, id, seq); len(confirmed) < seq-1; {
			confirmed = append(confirmed, fmt.Sprint(len(confirmed)+1))
		}
		free()
		eventually(t, func() error { return b.Healthy() })
		tell()
	}
	got := []string{}
	for _, message := range read(t, b, 0, len(confirmed)) {
		var event struct{ Seq int }
		if err := json.Unmarshal(message.Data(), &event); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(event.Seq))
	}
	if !slices.Equal(got, confirmed) {
		t.Errorf("the stream has %v, it has confirmed %v", got, confirmed)
	}
}

// TestAReaderGoesOnWhenAFullDiskHasEnded with a consumer that is there all the
// time, as the coordinator's is.
func TestAReaderGoesOnWhenAFullDiskHasEnded(t *testing.T) {
	disk := t.TempDir()
	disktest.Mount(t, disk, 32)
	b := start(t, broker.Options{Dir: filepath.Join(disk, "bus")})
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	consumer, err := b.Consumer(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	lost := make(chan error, 64)
	consuming, err := consumer.Consume(func(message jetstream.Msg) { _ = message.Ack() },
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case lost <- err:
			default:
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer consuming.Stop()
	free := disktest.Fill(t, disk)
	untilRefused(t, b, web1, id, 1)
	free()
	eventually(t, func() error { return b.Healthy() })
	for {
		select {
		case err := <-lost:
			if errors.Is(err, nats.ErrNoResponders) {
				return // the coordinator then reads again from what it has stored
			}
		case <-time.After(patience):
			t.Fatal("the reader was not told that it has to begin again")
		}
	}
}

// eventually waits until there is no error any more.
func eventually(t testing.TB, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for err := condition(); err != nil; err = condition() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
