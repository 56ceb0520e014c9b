package broker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// stranger connects without credentials.
func stranger(t testing.TB, b *broker.Broker, options ...nats.Option) (*nats.Conn, <-chan error) {
	t.Helper()
	faults := make(chan error, 64)
	options = append(options, nats.CustomInboxPrefix(bus.EnrolInbox("unguessable")), nats.MaxReconnects(0),
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

func TestWhoHasNoCredentialsCanAskForSome(t *testing.T) {
	b := start(t, broker.Options{})
	_, err := b.Agents().Subscribe(bus.Enrol, func(message *nats.Msg) {
		if bus.FromEnroller(message.Reply) {
			_ = message.Respond([]byte("welcome"))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	flush(t, b.Agents())
	connection, _ := stranger(t, b)
	answer, err := connection.Request(bus.Enrol, []byte("{}"), patience)
	if err != nil || string(answer.Data) != "welcome" {
		t.Fatalf("answer %v (%v)", answer, err)
	}
}

func TestWhoEnrolsReachesNothingElse(t *testing.T) {
	b := start(t, broker.Options{})
	connection, faults := stranger(t, b)
	rights{
		publish: []string{bus.Enrol},
		noPublish: []string{
			bus.HelloSubject("web1"), bus.EventSubject("web1", anyJob), bus.RenewSubject("web1"), bus.OrderSubject("web1"),
			bus.EnrolInbox("another") + ".x", "_INBOX.web1.x", bus.PrivateInbox("agents") + ".x",
			streamSubject("web1", anyJob), bus.JobsSubmit, "$JS.API.INFO", "$SYS.REQ.USER.INFO", "$SRV.PING",
		},
		noSubscription: []string{">", "*", "*.>", bus.Enrol, "borgfleet.>", "_INBOX.>", "_COORDINATOR.>", "_R_.>", "$SYS.>", "$JS.>", "$SRV.>"},
	}.check(t, b, connection, faults)
}

func TestWrongCredentialsAreNotTakenForNone(t *testing.T) {
	b, other := start(t, broker.Options{}), start(t, broker.Options{})
	foreign, _ := hostKeys(t, other, "web1")
	revoked, key := hostKeys(t, b, "web1")
	if err := b.RevokeAgent(key); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AuthorizeAgent("web1", key); err == nil {
		t.Error("a key that was revoked was authorized again")
	}
	stolen, _ := hostKeys(t, b, "web2")
	token, err := nkeys.ParseDecoratedJWT(stolen)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	before := b.Refusals()[broker.RefusedAuthentication]
	for name, credentials := range map[string]nats.Option{
		"of another bus":  nats.UserCredentials(credentialsFile(t, foreign)),
		"revoked":         nats.UserCredentials(credentialsFile(t, revoked)),
		"without its key": nats.UserJWT(func() (string, error) { return token, nil }, pair.Sign),
	} {
		if connection, err := nats.Connect(b.URL(), credentials); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
			connection.Close()
		}
	}
	if got := b.Refusals()[broker.RefusedAuthentication] - before; got != 3 {
		t.Errorf("%d failed authentications were counted, not 3", got)
	}
}

// TestDamagedCredentialsDoNotLeaveTheClient: a server would not understand them
// and take their owner for one who enrols.
func TestDamagedCredentialsDoNotLeaveTheClient(t *testing.T) {
	b := start(t, broker.Options{})
	good, _ := hostKeys(t, b, "web1")
	token, err := nkeys.ParseDecoratedJWT(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string]string{
		"cut":      token[:len(token)-20],
		"changed":  strings.Replace(token, ".", ".A", 1),
		"no parts": "eyJ0",
	} {
		t.Run(name, func(t *testing.T) {
			file := credentialsFile(t, []byte(strings.Replace(string(good), token, damaged, 1)))
			connection, err := nats.Connect(b.URL(), bus.ConnectOptions{Name: "web1", Credentials: file}.Options()...)
			if err == nil {
				connection.Close()
			}
			if err == nil || !strings.Contains(err.Error(), file+" are damaged") {
				t.Errorf("connect: %v", err)
			}
		})
	}
}

func TestStrangersCannotFillTheServer(t *testing.T) {
	b := start(t, broker.Options{})
	closed := make(chan struct{})
	stranger(t, b, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	web1, _ := agent(t, b, "web1")
	for range 64 {
		stranger(t, b)
	}
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the oldest of 65 clients without credentials is still connected")
	}
	flush(t, web1)
}
