package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const patience = time.Minute

// logger shows the product's log of a failed test.
func logger(t testing.TB) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: testWriter{t}})
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(text []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(text)))
	return len(text), nil
}

func start(t testing.TB, options broker.Options) *broker.Broker {
	t.Helper()
	if options.Dir == "" {
		options.Dir = filepath.Join(t.TempDir(), "bus")
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	options.Logger = hclog.NewNullLogger()
	b, err := broker.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// client connects over TCP with credentials, as agents and operators do.
// Violations of permissions arrive in the channel.
func client(t testing.TB, b *broker.Broker, credentials []byte, options ...nats.Option) (*nats.Conn, <-chan error) {
	t.Helper()
	faults := make(chan error, 64)
	options = append(options, nats.UserCredentials(credentialsFile(t, credentials)), nats.MaxReconnects(0),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case faults <- err:
			default:
			}
		}))
	connection, err := nats.Connect(b.URL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	return connection, faults
}

func agent(t testing.TB, b *broker.Broker, host string) (*nats.Conn, <-chan error) {
	t.Helper()
	credentials, _ := hostKeys(t, b, host)
	return client(t, b, credentials, nats.CustomInboxPrefix(bus.InboxPrefix(host)))
}

func operator(t testing.TB, b *broker.Broker, role bus.Role, options ...nats.Option) (*nats.Conn, <-chan error) {
	t.Helper()
	credentials, _, err := b.MintOperator("alice", role)
	if err != nil {
		t.Fatal(err)
	}
	return client(t, b, credentials, options...)
}

// publish sends an event as an agent does, and returns the stream's answer.
func publish(t testing.TB, connection *nats.Conn, host string, id job.ID, seq int) jetstream.PubAck {
	t.Helper()
	event := bus.Event{Event: job.Event{Job: id, Host: host, Attempt: 1, Seq: seq}, Stamp: bus.Stamp{Journal: "journal of " + host}}
	message := nats.NewMsg(bus.EventSubject(host, id))
	message.Header.Set(jetstream.MsgIDHeader, bus.EventID(event))
	message.Data = []byte(`{}`)
	reply, err := connection.RequestMsg(message, patience)
	if err != nil {
		t.Fatal(err)
	}
	return pubAck(t, reply)
}

func TestAnAgentsEventReachesTheStreamAndIsConfirmedOnce(t *testing.T) {
	b := start(t, broker.Options{})
	web1, _ := agent(t, b, "web1")
	watcher, _ := operator(t, b, bus.Operator)
	public, err := watcher.SubscribeSync("borgfleet.v1.>")
	if err != nil {
		t.Fatal(err)
	}
	flush(t, watcher)
	id := job.NewID(time.Now())

	first := publish(t, web1, "web1", id, 1)
	if first.Stream != bus.StreamName || first.Sequence != 1 || first.Duplicate {
		t.Errorf("confirmation of the first event: %+v", first)
	}
	if again := publish(t, web1, "web1", id, 1); !again.Duplicate || again.Sequence != 1 {
		t.Errorf("confirmation of the repeat: %+v", again)
	}
	if second := publish(t, web1, "web1", id, 2); second.Duplicate || second.Sequence != 2 {
		t.Errorf("confirmation of the second event: %+v", second)
	}
	stored := read(t, b, 0, 2)
	if stored[0].Subject() != streamSubject("web1", id) {
		t.Errorf("subject in the stream is %q", stored[0].Subject())
	}
	flush(t, watcher)
	if got, _, err := public.Pending(); err != nil || got != 0 {
		t.Errorf("an operator saw %d of the agents' private messages (%v)", got, err)
	}
}

func TestARestartKeepsKeysCredentialsStreamAndRevocations(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	b := start(t, broker.Options{Dir: dir})
	credentials, _ := hostKeys(t, b, "web1")
	lost, lostKey := hostKeys(t, b, "web2")
	if err := b.RevokeAgent(lostKey); err != nil {
		t.Fatal(err)
	}
	id := job.NewID(time.Now())
	web1, _ := client(t, b, credentials, nats.CustomInboxPrefix(bus.InboxPrefix("web1")))
	publish(t, web1, "web1", id, 1)
	signer, err := b.Signer().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	b.Close()

	b = start(t, broker.Options{Dir: dir})
	if got, err := b.Signer().PublicKey(); err != nil || got != signer {
		t.Errorf("signer is %s (%v), before it was %s", got, err, signer)
	}
	web1, _ = client(t, b, credentials, nats.CustomInboxPrefix(bus.InboxPrefix("web1")))
	if ack := publish(t, web1, "web1", id, 1); !ack.Duplicate {
		t.Errorf("an event repeated after the restart is taken for new: %+v", ack)
	}
	if ack := publish(t, web1, "web1", id, 2); ack.Sequence != 2 {
		t.Errorf("the stream goes on at %d", ack.Sequence)
	}
	if _, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, lost))); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("revoked credentials after the restart: %v", err)
	}
}

func TestKeyFilesArePrivateAndNeverMended(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	start(t, broker.Options{Dir: dir}).Close()
	files, err := filepath.Glob(filepath.Join(dir, "keys", "*.nk"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d keys (%v)", len(files), err)
	}
	for _, path := range append(files, filepath.Join(dir, "keys"), dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "keys.new-*")); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
	missing := filepath.Join(dir, "keys", "role-agent.nk")
	if err := os.Remove(missing); err != nil {
		t.Fatal(err)
	}
	_, err = broker.Start(t.Context(), broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: logger(t)})
	if err == nil || !strings.Contains(err.Error(), missing+" is missing") {
		t.Errorf("start without a key: %v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("the lost key was replaced by another one")
	}
}

func TestStartRefusesAnAddressItMustNotOrCannotUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for name, test := range map[string]struct {
		listen, message string
		code            job.Code
	}{
		"taken":         {taken.Addr().String(), taken.Addr().String() + " is already in use", job.Conflict},
		"every address": {"0.0.0.0:0", "is not on loopback", job.InvalidRequest},
		"no address":    {":4222", "is not on loopback", job.InvalidRequest},
		"another name":  {"example.net:4222", "is not on loopback", job.InvalidRequest},
		"no port":       {"127.0.0.1", "is not an address", job.InvalidRequest},
		"port too high": {"127.0.0.1:70000", "is not a port", job.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "bus")
			_, err := broker.Start(t.Context(), broker.Options{Dir: dir, Listen: test.listen, Logger: logger(t)})
			failure, ok := errors.AsType[*job.Failure](err)
			if !ok || failure.Code != test.code || !strings.Contains(failure.Message, test.message) || failure.Hint == "" {
				t.Errorf("start on %s: %#v", test.listen, err)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("something was written although nothing was started")
			}
		})
	}
}

func TestNamesThatCouldWidenAPermissionAreRefused(t *testing.T) {
	b := start(t, broker.Options{})
	_, key := hostKeys(t, b, "web1")
	for _, name := range []string{"", "*", ">", "web1.>", "web1.cmd", "Web1", "web 1", "web1\n"} {
		if _, err := b.AuthorizeAgent(name, key); err == nil {
			t.Errorf("authorized an agent called %q", name)
		}
	}
	for _, name := range []string{"", "*", "a.b", "a b"} {
		if _, _, err := b.MintOperator(name, bus.Viewer); err == nil {
			t.Errorf("minted an operator called %q", name)
		}
	}
	if _, _, err := b.MintOperator("alice", "root"); err == nil {
		t.Error("minted an operator with a role that does not exist")
	}
}

func TestOperatorCredentialsAreWrittenOnceAndPrivate(t *testing.T) {
	b := start(t, broker.Options{})
	path := filepath.Join(t.TempDir(), "operator.creds")
	if err := b.WriteOperatorCredentials(path, "local", bus.Admin); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	if err := b.WriteOperatorCredentials(path, "local", bus.Admin); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(path); err != nil || string(second) != string(first) {
		t.Errorf("the file was written again (%v)", err)
	}
	connection, _ := client(t, b, first)
	if err := connection.FlushTimeout(patience); err != nil {
		t.Error(err)
	}
}

func TestHealthyTellsThatTheBusIsGone(t *testing.T) {
	b := start(t, broker.Options{})
	if err := b.Healthy(); err != nil {
		t.Fatalf("healthy bus: %v", err)
	}
	if url := b.WebsocketURL(); url != "" {
		t.Errorf("a bus without a listener for websockets names %s", url)
	}
	b.Close()
	if err := b.Healthy(); err == nil {
		t.Error("a closed bus is healthy")
	}
}

// read takes the events after a place from the stream, in order, without
// acknowledging any.
func read(t testing.TB, b *broker.Broker, after uint64, count int) (messages []jetstream.Msg) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, func() error { // a consumer is not there at once after a full disk
		consumer, err := b.Consumer(ctx, after)
		if err != nil {
			return err
		}
		batch, err := consumer.Fetch(count, jetstream.FetchMaxWait(10*time.Second))
		if err != nil {
			return err
		}
		messages = nil
		for message := range batch.Messages() {
			messages = append(messages, message)
		}
		if len(messages) != count {
			return fmt.Errorf("read %d events, not %d (%v)", len(messages), count, batch.Error())
		}
		return nil
	})
	return messages
}

func sequences(t testing.TB, messages []jetstream.Msg) string {
	t.Helper()
	var all []string
	for _, message := range messages {
		metadata, err := message.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(metadata.Sequence.Stream))
	}
	return strings.Join(all, " ")
}

func flush(t testing.TB, connection *nats.Conn) {
	t.Helper()
	if err := connection.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}
