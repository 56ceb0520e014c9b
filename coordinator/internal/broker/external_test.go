package broker_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestAnExternalCluster(t *testing.T) {
	cluster := start(t, broker.Options{})
	lent, err := cluster.Lend(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bus")
	b := start(t, broker.Options{Dir: dir, External: lent})
	if err := b.Healthy(); err != nil {
		t.Errorf("healthy: %v", err)
	}
	if b.System() == nil || b.AgentsAccount() != cluster.AgentsAccount() || b.URL() != cluster.URL() {
		t.Errorf("system %v, account %s, URL %s", b.System(), b.AgentsAccount(), b.URL())
	}
	web1, _ := agent(t, b, "web1")
	if ack := publish(t, web1, "web1", job.NewID(time.Now()), 1); ack.Sequence != 1 {
		t.Errorf("confirmation %+v", ack)
	}
	if got := sequences(t, read(t, b, 0, 1)); got != "1" {
		t.Errorf("read %s", got)
	}
	signer, err := b.Signer().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.MintOperator("alice", bus.Viewer); err == nil {
		t.Error("an operator was minted without the key for it")
	}
	b.Close()
	lent.SystemCredentialsFile = ""
	b = start(t, broker.Options{Dir: dir, External: lent})
	if again, err := b.Signer().PublicKey(); err != nil || again != signer {
		t.Errorf("signer is %s (%v), before it was %s", again, err, signer)
	}
	if b.System() != nil {
		t.Error("a system connection without credentials for it")
	}
}

// external starts a broker on a cluster, which is another one's server, with
// what its administrator lends.
func external(t *testing.T, change func(*broker.External)) (b, cluster *broker.Broker) {
	t.Helper()
	cluster = start(t, broker.Options{})
	lent, err := cluster.Lend(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	change(lent)
	return start(t, broker.Options{External: lent}), cluster
}

func TestAgentsOfAnExternalClusterAreCutOffAndKeptOff(t *testing.T) {
	b, _ := external(t, func(*broker.External) {})
	credentials, key := hostKeys(t, b, "web1")
	other, _ := agent(t, b, "web1")
	closed := make(chan time.Time, 2)
	connect := func() {
		connection, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, credentials)), nats.MaxReconnects(0),
			nats.ClosedHandler(func(*nats.Conn) { closed <- time.Now() }))
		if err != nil { // cut off before it knew that it was connected
			closed <- time.Now()
			return
		}
		t.Cleanup(connection.Close)
	}
	connect()
	began := time.Now()
	if err := b.RevokeAgent(key); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"connected", "connected again"} {
		select {
		case at := <-closed:
			t.Logf("%s: cut off after %s", when, at.Sub(began))
			if took := at.Sub(began); took > time.Second {
				t.Errorf("%s: cut off after %s", when, took)
			}
		case <-time.After(patience):
			t.Fatalf("%s: still there", when)
		}
		if when == "connected" { // the cluster itself believes the credentials until they expire
			began = time.Now()
			connect()
		}
	}
	flush(t, other)
	if _, err := b.AuthorizeAgent("web1", key); err == nil {
		t.Error("a key that was revoked was authorized again")
	}
}

func TestWithoutTheSystemAccountAnAdministratorHasToRevoke(t *testing.T) {
	b, _ := external(t, func(e *broker.External) { e.SystemCredentialsFile = "" })
	_, agentKey := hostKeys(t, b, "web1")
	for what, err := range map[string]error{"AGENTS": b.RevokeAgent(agentKey), "OPERATORS": b.RevokeOperator(agentKey)} {
		hint := job.AsFailure(err).Hint
		if !strings.Contains(hint, "--account "+what) || !strings.Contains(hint, agentKey) {
			t.Errorf("%s: %v, hint %q", what, err, hint)
		}
	}
	if _, err := b.AuthorizeAgent("web1", agentKey); err == nil {
		t.Error("a key that was revoked was authorized again")
	}
}

func TestWhatAnExternalClusterBelievesEndsWithinADay(t *testing.T) {
	b, _ := external(t, func(*broker.External) {})
	_, key := hostKeys(t, b, "web1")
	token, err := b.AuthorizeAgent("web1", key)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(time.Unix(claims.Expires, 0)); left > 24*time.Hour || left < 23*time.Hour {
		t.Errorf("it ends in %s", left)
	}
}

// TestOperatorsOfAnExternalCluster have an account of their own there, too, and
// the coordinator knows their roles by the keys that it was told.
func TestOperatorsOfAnExternalCluster(t *testing.T) {
	b, cluster := external(t, func(e *broker.External) { delete(e.OperatorKeys, bus.Viewer) })
	for role, want := range map[bus.Role]bool{bus.Viewer: false, bus.Operator: true, bus.Admin: true} {
		token, _ := operatorToken(t, cluster, role)
		if name, got, known := b.Operator(token); known != want || want && (name != "alice" || got != role) {
			t.Errorf("%s: %q %q %v", role, name, got, known)
		}
	}
	service, err := b.API().QueueSubscribe(bus.StatusSubject, "coordinators", func(message *nats.Msg) {
		if bus.FromOperator(message.Reply) {
			_ = message.Respond([]byte(message.Header.Get("Nats-Request-Info")))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	flush(t, b.API())
	alice, _ := operator(t, cluster, bus.Viewer)
	answer, err := alice.Request(service.Subject, nil, patience)
	if err != nil || !strings.Contains(string(answer.Data), `"name_tag":"alice"`) {
		t.Errorf("the service sees %v (%v)", answer, err)
	}
}

func TestAnExternalClusterThatCannotBeUsed(t *testing.T) {
	cluster := start(t, broker.Options{})
	lend := func(change func(*broker.External)) *broker.External {
		lent, err := cluster.Lend(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		change(lent)
		return lent
	}
	other := start(t, broker.Options{})
	foreign, err := other.Lend(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		external *broker.External
		message  string
	}{
		"foreign credentials": {lend(func(e *broker.External) { e.CredentialsFile = foreign.CredentialsFile }), "no connection (stream)"},
		"no credentials":      {lend(func(e *broker.External) { e.AgentsCredentialsFile = "/nowhere.creds" }), "/nowhere.creds"},
		"no signing key":      {lend(func(e *broker.External) { e.SigningKeyFile = "/nowhere.nk" }), "/nowhere.nk"},
		"credentials as key":  {lend(func(e *broker.External) { e.SigningKeyFile = e.CredentialsFile }), "signing key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // enough for the connections that work
			defer cancel()
			b, err := broker.Start(ctx, broker.Options{Dir: t.TempDir(), External: test.external, Logger: logger(t)})
			if err == nil {
				b.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.message) {
				t.Errorf("start: %v, want %q", err, test.message)
			}
		})
	}
}
