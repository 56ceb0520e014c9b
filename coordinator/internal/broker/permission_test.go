package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const anyJob = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"

// rights is what a client may and may not do.
type rights struct {
	publish, subscribe        []string
	noPublish, noSubscription []string
}

// check tries everything with a client's connection.
func (r rights) check(t *testing.T, b *broker.Broker, connection *nats.Conn, faults <-chan error) {
	t.Helper()
	before := b.Refusals()
	for _, subject := range r.subscribe {
		subscribe(t, connection, subject)
	}
	for _, subject := range r.publish {
		publishOnly(t, connection, subject)
	}
	expectViolation(t, connection, faults, "anything before that is allowed", func() { publishOnly(t, connection, "not.allowed.to.anybody") })
	for _, subject := range r.noPublish {
		expectViolation(t, connection, faults, "publish to "+subject, func() { publishOnly(t, connection, subject) })
	}
	for _, subject := range r.noSubscription {
		expectViolation(t, connection, faults, "subscribe to "+subject, func() { subscribe(t, connection, subject) })
	}
	after := b.Refusals()
	published, subscribed := after[broker.RefusedPublish]-before[broker.RefusedPublish], after[broker.RefusedSubscribe]-before[broker.RefusedSubscribe]
	if published != uint64(len(r.noPublish)+1) || subscribed != uint64(len(r.noSubscription)) {
		t.Errorf("counted %d and %d refusals, not %d and %d", published, subscribed, len(r.noPublish)+1, len(r.noSubscription))
	}
}

func subscribe(t *testing.T, connection *nats.Conn, subject string) {
	t.Helper()
	if _, err := connection.SubscribeSync(subject); err != nil {
		t.Fatal(err)
	}
}

func publishOnly(t *testing.T, connection *nats.Conn, subject string) {
	t.Helper()
	if err := connection.Publish(subject, []byte("{}")); err != nil {
		t.Fatal(err)
	}
}

// expectViolation does something and wants exactly one violation from it.
func expectViolation(t *testing.T, connection *nats.Conn, faults <-chan error, what string, do func()) {
	t.Helper()
	do()
	flush(t, connection)
	select {
	case err := <-faults:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s was not refused", what)
	}
	select {
	case err := <-faults:
		t.Fatalf("%s: one more violation, so something allowed was refused: %v", what, err)
	default:
	}
}

func TestAgentsReachNothingButTheirOwn(t *testing.T) {
	b := start(t, broker.Options{})
	connection, faults := agent(t, b, "web1")
	rights{
		publish: []string{
			bus.HelloSubject("web1"), bus.EventSubject("web1", anyJob), bus.ProgressSubject("web1", anyJob),
		},
		subscribe: []string{bus.OrderSubject("web1"), bus.CancelSubject("web1"), bus.InboxPrefix("web1") + ".*"},
		noPublish: []string{
			bus.HelloSubject("web2"), bus.EventSubject("web2", anyJob), bus.ProgressSubject("web2", anyJob),
			bus.OrderSubject("web1"), bus.OrderSubject("web2"), bus.InboxPrefix("web2") + ".x",
			bus.PrivateInbox("agents") + ".x", streamSubject("web1", anyJob), streamSubject("web2", anyJob),
			bus.JobsSubmit, bus.PublicEvent("web1", anyJob), "borgfleet.v1.agent.web1",
			"$JS.API.INFO", "$JS.API.STREAM.INFO.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.coordinator",
			"$JS.ACK.EVENTS.coordinator.1.1.1.1.1", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$SRV.PING",
		},
		noSubscription: []string{
			">", "*", "borgfleet.>", "borgfleet.v1.cmd.>", "borgfleet.v1.cmd.*.order", bus.OrderSubject("web2"),
			"borgfleet.v1.agent.>", bus.AllHellos, bus.EventSubject("*", "*"), bus.HelloSubject("web1"), bus.StreamSubjects,
			"_INBOX.>", "_INBOX.*.>", bus.InboxPrefix("web2") + ".>", "_COORDINATOR.>", "$SYS.>", "$JS.>", "$SRV.>",
		},
	}.check(t, b, connection, faults)
}

func TestOperatorsWatchAndAskButDoNotReachTheStream(t *testing.T) {
	b := start(t, broker.Options{})
	ask := []string{bus.JobsGet, bus.JobsList, bus.JobsLog, bus.HostsList, bus.HostsGet, bus.RepositoriesList, bus.StatusSubject, "$SRV.PING", "$SRV.INFO.borgfleet"}
	act := []string{bus.JobsSubmit, bus.JobsCancel, bus.JobsRetry, "borgfleet.v1.plans.run"}
	never := []string{
		"$JS.API.INFO", "$JS.API.STREAM.PURGE.EVENTS", "$JS.ACK.EVENTS.coordinator.1.1.1.1.1", "$SYS.REQ.SERVER.PING",
		streamSubject("web1", anyJob), bus.EventSubject("web1", anyJob), bus.OrderSubject("web1"), bus.HelloSubject("web1"),
		bus.PublicEvent("web1", anyJob), bus.PublicProgress("web1", anyJob), bus.PublicHeartbeat("web1"),
		"_INBOX.somebody.x", bus.PrivateInbox("api") + ".x",
	}
	closed := []string{">", "borgfleet.>", "*.>", bus.StreamSubjects, "_COORDINATOR.>", "$JS.>", "$SYS.>", "$SRV.>"}
	watch := []string{"borgfleet.v1.>", "borgfleet.v1.progress.>", "_INBOX.>"}
	for role, r := range map[bus.Role]rights{
		bus.Viewer:   {ask, watch, append(act, never...), closed},
		bus.Operator: {append(ask, act...), watch, never, closed},
		bus.Admin:    {append(ask, act...), watch, never, closed},
	} {
		t.Run(string(role), func(t *testing.T) {
			connection, faults := operator(t, b, role)
			r.check(t, b, connection, faults)
		})
	}
}

func TestTheConnectionThatServesOperatorsHasNoRightOnStreams(t *testing.T) {
	b := start(t, broker.Options{})
	dir := t.TempDir()
	lent, err := b.Lend(dir)
	if err != nil {
		t.Fatal(err)
	}
	faults := make(chan error, 64)
	connection, err := nats.Connect(b.URL(), nats.UserCredentials(lent.APICredentialsFile),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { faults <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	rights{
		publish:        []string{"_R_.x", bus.PublicEvent("web1", anyJob)},
		subscribe:      []string{bus.JobsSubmit, "$SRV.PING"},
		noPublish:      []string{"_INBOX.alice.x", "$JS.API.STREAM.DELETE.EVENTS", streamSubject("web1", anyJob), "$SYS.REQ.SERVER.PING", bus.PrivateInbox("stream") + ".x"},
		noSubscription: []string{">", "_INBOX.>", bus.StreamSubjects},
	}.check(t, b, connection, faults)
}

func TestAnAgentIsBounded(t *testing.T) {
	b := start(t, broker.Options{})
	t.Run("message size", func(t *testing.T) {
		closed := make(chan struct{})
		credentials, _ := hostKeys(t, b, "web1")
		connection, _ := client(t, b, credentials, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
		err := connection.Publish(bus.EventSubject("web1", job.ID(anyJob)), make([]byte, bus.MaxMessageBytes+1))
		if errors.Is(err, nats.ErrMaxPayload) && connection.MaxPayload() == bus.MaxMessageBytes {
			return // the server has told its limit already
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-closed:
		case <-time.After(patience):
			t.Error("a message over the limit was taken")
		}
	})
	t.Run("subscriptions", func(t *testing.T) {
		connection, faults := agent(t, b, "web1")
		for range 17 {
			subscribe(t, connection, bus.OrderSubject("web1"))
		}
		flush(t, connection)
		select {
		case err := <-faults:
			if !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("17 subscriptions were taken")
		}
	})
}
