package broker_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *lines) with(part string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// startLogged starts a broker whose log can be read.
func startLogged(t testing.TB) (*broker.Broker, *lines) {
	t.Helper()
	log := &lines{}
	b, err := broker.Start(t.Context(), broker.Options{
		Dir: filepath.Join(t.TempDir(), "bus"), Listen: "127.0.0.1:0",
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: log}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, log
}

// TestARogueWithTheCredentialsOfOneHost tries, with what host A's agent has,
// all that would harm host B, the stream or the coordinator.
func TestARogueWithTheCredentialsOfOneHost(t *testing.T) {
	b, log := startLogged(t)
	victim, _ := agent(t, b, "b")
	orders, err := victim.SubscribeSync(bus.OrderSubject("b"))
	if err != nil {
		t.Fatal(err)
	}
	flush(t, victim)
	id := job.NewID(time.Now())
	publish(t, victim, "b", id, 1)
	hellos, err := b.Agents().SubscribeSync(bus.AllHellos)
	if err != nil {
		t.Fatal(err)
	}
	flush(t, b.Agents())

	rogue, faults := agent(t, b, "a")
	refused := tryEverything(t, rogue, faults, id)
	if err := b.Agents().Publish(bus.OrderSubject("b"), []byte("order of b")); err != nil {
		t.Fatal(err)
	}
	if order, err := orders.NextMsg(patience); err != nil || string(order.Data) != "order of b" {
		t.Errorf("host B received %v (%v)", order, err)
	}
	flush(t, rogue)
	if n, _, err := hellos.Pending(); err != nil || n != 0 {
		t.Errorf("the coordinator received %d hellos in B's name (%v)", n, err)
	}
	if events := read(t, b, 0, 1); events[0].Subject() != streamSubject("b", id) {
		t.Errorf("the stream holds %s", events[0].Subject())
	}
	if err := b.Healthy(); err != nil {
		t.Errorf("after the rogue: %v", err)
	}
	got := b.Refusals()
	if got[broker.RefusedPublish] != refused.publish || got[broker.RefusedSubscribe] != refused.subscribe {
		t.Errorf("counted %v, the rogue saw %+v", got, refused)
	}
	logged := log.with("the bus refused a client")
	if len(logged) != 2 || !strings.Contains(logged[0], "127.0.0.1") || !strings.Contains(logged[0], "jwt:U") {
		t.Errorf("logged %d lines, not one for each kind with host and identity:\n%s", len(logged), strings.Join(logged, ""))
	}
}

// tried is how often something was refused.
type tried struct{ publish, subscribe uint64 }

// tryEverything returns how often the server refused; each attempt must be.
func tryEverything(t *testing.T, rogue *nats.Conn, faults <-chan error, id job.ID) (refused tried) {
	t.Helper()
	subscribe := map[string]string{
		"read B's orders":          bus.OrderSubject("b"),
		"read everybody's orders":  bus.Prefix + ".cmd.>",
		"read B's replies":         bus.InboxPrefix("b") + ".>",
		"read all replies":         "_INBOX.>",
		"read enrolments":          bus.Enrol,
		"read enrolment's answers": "_ENROLL.>",
		"be the coordinator":       bus.AllHellos,
		"read what it is answered": "_COORDINATOR.>",
		"read the system account":  "$SYS.>",
		"read JetStream's":         "$JS.>",
		"read replies to imports":  "_R_.>",
	}
	publish := map[string]string{
		"say hello as B":            bus.HelloSubject("b"),
		"publish an event as B":     bus.EventSubject("b", id),
		"write into the stream":     streamSubject("b", id),
		"renew B's identity":        bus.RenewSubject("b"),
		"order something of B":      bus.OrderSubject("b"),
		"delete the stream":         "$JS.API.STREAM.DELETE." + bus.StreamName,
		"list consumers":            "$JS.API.CONSUMER.LIST." + bus.StreamName,
		"ask for the next message":  "$JS.API.CONSUMER.MSG.NEXT." + bus.StreamName + "." + bus.ConsumerName,
		"answer B as coordinator":   bus.InboxPrefix("b") + ".x",
		"answer the coordinator":    bus.PrivateInbox(bus.AgentsConnection) + ".x",
		"answer one who enrols":     bus.EnrolInbox("x"),
		"answer what was imported":  "_R_.x",
		"submit a job":              bus.JobsSubmit,
		"disconnect others":         "$SYS.REQ.SERVER.x.KICK",
		"change accounts":           "$SYS.REQ.CLAIMS.UPDATE",
		"forge a stored event":      bus.PublicEvent("b", id),
		"acknowledge B's events":    "$JS.ACK." + bus.StreamName + "." + bus.ConsumerName + ".1.1.1.1.1",
		"ask for enrolment as host": bus.Enrol,
	}
	for what, subject := range subscribe {
		expectViolation(t, rogue, faults, what, func() {
			if _, err := rogue.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
		})
	}
	for what, subject := range publish {
		expectViolation(t, rogue, faults, what, func() { publishOnly(t, rogue, subject) })
	}
	return tried{uint64(len(publish)), uint64(len(subscribe))}
}

// TestAReplySubjectGainsNothing: the server does not check reply subjects, so
// the stream's confirmation can be sent to another host. That is all.
func TestAReplySubjectGainsNothing(t *testing.T) {
	b := start(t, broker.Options{})
	rogue, _ := agent(t, b, "a")
	id := job.NewID(time.Now())
	for i, reply := range []string{"$JS.API.STREAM.DELETE." + bus.StreamName, "$SYS.REQ.SERVER.PING", bus.EventSubject("b", id)} {
		message := nats.NewMsg(bus.EventSubject("a", id))
		message.Reply = reply
		message.Header.Set(jetstream.MsgIDHeader, fmt.Sprint(i))
		if err := rogue.PublishMsg(message); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, rogue, "a", id, 1)
	if err := b.Healthy(); err != nil {
		t.Errorf("the stream: %v", err)
	}
	for _, event := range read(t, b, 0, 4) {
		if event.Subject() != streamSubject("a", id) {
			t.Errorf("an event as %s", event.Subject())
		}
	}
	if held := streamLength(t, b); held != 4 {
		t.Errorf("the stream holds %d events, not 4", held)
	}
}

func streamLength(t *testing.T, b *broker.Broker) uint64 {
	t.Helper()
	js, err := jetstream.New(b.Stream())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), bus.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// TestAnIdentityThatIsOnlyClaimed has a client that proves to be host A's agent
// and names B's key beside that. The server would report it under B's key.
func TestAnIdentityThatIsOnlyClaimed(t *testing.T) {
	b := start(t, broker.Options{})
	credentials, _ := hostKeys(t, b, "a")
	_, victim := hostKeys(t, b, "b")
	token, err := nkeys.ParseDecoratedJWT(credentials)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(credentials)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", strings.TrimPrefix(b.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	signature, err := pair.Sign([]byte(info.Nonce))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := json.Marshal(map[string]any{"jwt": token, "sig": base64.RawURLEncoding.EncodeToString(signature), "nkey": victim})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(connection, "CONNECT %s\r\n", hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, reader); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it is still connected")
	}
}

func TestARefusalIsLoggedOnceAndCountedAlways(t *testing.T) {
	b, log := startLogged(t)
	// A client may call itself what it likes, and subjects may look like formats.
	forged := `x - Subscription Violation - Subject "a", SID 1 %s%d - Publish Violation - Subject %q`
	rogue, faults := client(t, b, first(hostKeys(t, b, "a")), nats.Name(forged))
	for range 50 {
		expectViolation(t, rogue, faults, "publish", func() { publishOnly(t, rogue, "%s.%d.%!") })
	}
	expectViolation(t, rogue, faults, "subscribe", func() { subscribe(t, rogue, "%s.%d") })
	if got := b.Refusals(); got[broker.RefusedPublish] != 50 || got[broker.RefusedSubscribe] != 1 || got[broker.RefusedAuthentication] != 0 {
		t.Errorf("counted %v", got)
	}
	logged := log.with("the bus refused a client")
	if len(logged) != 2 || !strings.Contains(logged[0], `%s.%d.%!`) || strings.Contains(logged[0], "NOVERB") || !strings.Contains(logged[1], `%s.%d`) {
		t.Errorf("logged:\n%s", strings.Join(logged, ""))
	}
}

func first[A, B any](a A, _ B) A { return a }

// TestNobodySilencesAnotherHost: the stream takes what has an id that it knows
// for a repeat, whoever sent it. Names of archives give jobs away to whoever
// shares a repository.
func TestNobodySilencesAnotherHost(t *testing.T) {
	b := start(t, broker.Options{})
	rogue, _ := agent(t, b, "rogue")
	web1, _ := agent(t, b, "web1")
	id := job.NewID(time.Now())
	publish(t, rogue, "rogue", id, 1)
	if ack := publish(t, web1, "web1", id, 1); ack.Duplicate {
		t.Error("an event was taken for a repeat of another host's")
	}
	if ack := publish(t, web1, "web1", id, 1); !ack.Duplicate {
		t.Error("a repeat was taken for news")
	}
}
