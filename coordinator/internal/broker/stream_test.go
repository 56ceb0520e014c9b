package broker_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestTheConsumerStartsAfterWhatIsStored(t *testing.T) {
	b := start(t, broker.Options{})
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	for seq := 1; seq <= 4; seq++ {
		publish(t, web1, "web1", id, seq)
	}
	read(t, b, 0, 3) // delivered, and never acknowledged: the coordinator crashed
	for _, test := range []struct {
		name  string
		after uint64
		want  string
	}{
		{"nothing stored", 0, "1 2 3 4"},
		{"some stored, none acknowledged", 2, "1 2 3 4"},
		{"the stream is younger than the store", 77, "1 2 3 4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			got := sequences(t, read(t, b, test.after, len(strings.Fields(test.want))))
			if got != test.want {
				t.Errorf("delivered %s, want %s", got, test.want)
			}
			if waited := time.Since(began); waited > patience/2 {
				t.Errorf("delivered after %s: waited for an acknowledgement that cannot come", waited)
			}
		})
	}
}

func TestTheConsumerTrustsTheStoreWhenThatIsBehind(t *testing.T) {
	b := start(t, broker.Options{})
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	for seq := 1; seq <= 4; seq++ {
		publish(t, web1, "web1", id, seq)
	}
	for _, message := range read(t, b, 0, 4) {
		if err := message.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // also from a consumer that was made anew and has acknowledged nothing
		if got := sequences(t, read(t, b, 2, 2)); got != "3 4" {
			t.Errorf("delivered %s", got)
		}
	}
}

// TestNothingOfANewStreamIsPassedOver has a store that was at place 3 of a
// stream which was lost. Its place stays there until the new stream is longer.
func TestNothingOfANewStreamIsPassedOver(t *testing.T) {
	const stored = 3
	b := start(t, broker.Options{})
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	for seq := 1; seq <= 5; seq++ { // before the coordinator looks for the first time
		publish(t, web1, "web1", id, seq)
	}
	messages := read(t, b, stored, 5)
	if got := sequences(t, messages); got != "1 2 3 4 5" {
		t.Fatalf("delivered %s", got)
	}
	if err := messages[0].DoubleAck(t.Context()); err != nil { // and then the coordinator crashed
		t.Fatal(err)
	}
	if got := sequences(t, read(t, b, stored, 4)); got != "2 3 4 5" {
		t.Errorf("delivered %s after the crash", got)
	}
}

func TestTheConsumerIsKeptWhenItAgrees(t *testing.T) {
	b := start(t, broker.Options{})
	web1, _ := agent(t, b, "web1")
	publish(t, web1, "web1", job.NewID(time.Now()), 1)
	if err := read(t, b, 0, 1)[0].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := func() time.Time {
		consumer, err := b.Consumer(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return consumer.CachedInfo().Created
	}
	if first, second := made(), made(); !first.Equal(second) {
		t.Error("made anew without need")
	}
}

func TestAFullStreamRefusesEventsUntilStoredOnesAreRemoved(t *testing.T) {
	b := start(t, broker.Options{StreamMaxBytes: 64 << 10})
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	send := func(seq int) string {
		message := nats.NewMsg(bus.EventSubject("web1", id))
		message.Header.Set(jetstream.MsgIDHeader, bus.EventID(bus.Event{Event: job.Event{Job: id, Attempt: 1, Seq: seq}}))
		message.Data = bytes.Repeat([]byte("x"), 16<<10)
		reply, err := web1.RequestMsg(message, patience)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Error struct {
				Description string `json:"description"`
			} `json:"error"`
		}
		if err := json.Unmarshal(reply.Data, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Error.Description
	}
	for seq := 1; seq <= 3; seq++ {
		if refused := send(seq); refused != "" {
			t.Fatalf("event %d refused: %s", seq, refused)
		}
	}
	if refused := send(4); refused == "" {
		t.Fatal("a full stream takes events")
	}
	if err := b.Trim(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := sequences(t, read(t, b, 0, 3)); got != "1 2 3" {
		t.Fatalf("events that are not stored were removed: left %s", got)
	}
	for _, message := range read(t, b, 0, 3) {
		if err := message.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Trim(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if refused := send(4); refused == "" {
		t.Fatal("events were removed although the stream is small")
	}
	if err := b.Trim(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if refused := send(4); refused != "" {
		t.Errorf("refused after stored events were removed: %s", refused)
	}
	if refused := send(1); refused != "" {
		t.Errorf("a repeat of a removed event: %s", refused)
	}
	if got := sequences(t, read(t, b, 3, 1)); got != "4" {
		t.Errorf("left in the stream: %s", got)
	}
}

func TestServersThatAreTooOldAreRefused(t *testing.T) {
	for version, good := range map[string]bool{
		"2.15.2": true, "2.14.3": true, "2.14.3-RC.1": true, "2.12.12": true, "3.0.0": true,
		"2.14.2": false, "2.13.9": false, "2.12.11": false, "2.10.29": false, "1.4.1": false, "": false, "new": false,
	} {
		if err := broker.CheckServer(version); (err == nil) != good {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func BenchmarkFirstStart(b *testing.B) {
	for b.Loop() {
		start(b, broker.Options{}).Close()
	}
}

func BenchmarkRestart(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "bus")
	start(b, broker.Options{Dir: dir}).Close()
	for b.Loop() {
		start(b, broker.Options{Dir: dir}).Close()
	}
}
