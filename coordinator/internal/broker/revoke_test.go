package broker_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// cutOff revokes while a client is connected, and returns how long it took
// until the client was off. It must not get back in.
func cutOff(t testing.TB, b *broker.Broker, credentials []byte, revoke func() error) time.Duration {
	t.Helper()
	closed := make(chan time.Time, 1)
	client(t, b, credentials, nats.ClosedHandler(func(*nats.Conn) { closed <- time.Now() }))
	began := time.Now()
	if err := revoke(); err != nil {
		t.Fatal(err)
	}
	var took time.Duration
	select {
	case at := <-closed:
		took = at.Sub(began)
	case <-time.After(patience):
		t.Fatal("still connected")
	}
	if _, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, credentials))); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connected again: %v", err)
	}
	return took
}

func TestRevokedCredentialsAreCutOffWithinASecondAndForGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	b := start(t, broker.Options{Dir: dir})
	agentsOwn, agentKey := hostKeys(t, b, "web1")
	alices, aliceKey, err := b.MintOperator("alice", bus.Admin)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := agent(t, b, "web1") // other keys of the same host
	bob, _ := operator(t, b, bus.Admin)
	for name, test := range map[string]struct {
		credentials []byte
		revoke      func() error
	}{
		"agent":    {agentsOwn, func() error { return b.RevokeAgent(agentKey) }},
		"operator": {alices, func() error { return b.RevokeOperator(aliceKey) }},
	} {
		took := cutOff(t, b, test.credentials, test.revoke)
		t.Logf("%s: cut off after %s", name, took)
		if took > time.Second {
			t.Errorf("%s: cut off after %s", name, took)
		}
		if err := test.revoke(); err != nil {
			t.Errorf("%s: revoked once more: %v", name, err)
		}
	}
	flush(t, other)
	flush(t, bob)
	if err := errors.Join(b.RevokeAgent("UNSINN"), b.RevokeOperator("UNSINN")); err == nil {
		t.Error("a key that is none was revoked")
	}
	b.Close()

	b = start(t, broker.Options{Dir: dir})
	for name, credentials := range map[string][]byte{"agent": agentsOwn, "operator": alices} {
		if _, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, credentials))); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s after a restart: %v", name, err)
		}
	}
}

func TestAnOperatorsTokenSaysWhoTheyAreUntilRevoked(t *testing.T) {
	b, other := start(t, broker.Options{}), start(t, broker.Options{})
	for _, role := range bus.Roles() {
		token, key := operatorToken(t, b, role)
		if name, got, known := b.Operator(token); name != "alice" || got != role || !known {
			t.Errorf("%s: %q %q %v", role, name, got, known)
		}
		if _, _, known := other.Operator(token); known {
			t.Errorf("%s: known to another bus", role)
		}
		if err := b.RevokeOperator(key); err != nil {
			t.Fatal(err)
		}
		if _, _, known := b.Operator(token); known {
			t.Errorf("%s: known after it was revoked", role)
		}
	}
	_, key := hostKeys(t, b, "web1")
	token, err := b.AuthorizeAgent("web1", key)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"an agent": token, "nonsense": "a.b.c", "nothing": ""} {
		if _, _, known := b.Operator(token); known {
			t.Errorf("%s is taken for an operator", name)
		}
	}
}

func BenchmarkRevoke(b *testing.B) {
	bus := start(b, broker.Options{})
	for b.Loop() {
		credentials, key := hostKeys(b, bus, "web1")
		cutOff(b, bus, credentials, func() error { return bus.RevokeAgent(key) })
	}
}

// TestAKeyThatWasRevokedIsSoWhateverTheClockSaid: credentials that were minted
// while the coordinator's clock was ahead say that they are newer than the
// revocation, once the clock is right.
func TestAKeyThatWasRevokedIsSoWhateverTheClockSaid(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	b := start(t, broker.Options{Dir: dir})
	credentials, key := hostKeys(t, b, "web1")
	ahead := mintedAt(t, credentials, filepath.Join(dir, "keys", "role-agent.nk"), time.Now().Add(time.Hour))
	took := cutOff(t, b, ahead, func() error { return b.RevokeAgent(key) })
	if took > time.Second {
		t.Errorf("cut off after %s", took)
	}
	b.Close()
	b = start(t, broker.Options{Dir: dir})
	if _, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, ahead))); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("after a restart: %v", err)
	}
}

// mintedAt returns the credentials as a clock at that time would have had them
// made; keyFile holds the signing key.
func mintedAt(t *testing.T, credentials []byte, keyFile string, at time.Time) []byte {
	t.Helper()
	token, err := nkeys.ParseDecoratedJWT(credentials)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(credentials)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	payload = regexp.MustCompile(`"iat":\d+`).ReplaceAll(payload, fmt.Appendf(nil, `"iat":%d`, at.Unix()))
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := nkeys.FromSeed(bytes.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := signer.Sign([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	made, err := jwt.FormatUserConfig(signed+"."+base64.RawURLEncoding.EncodeToString(signature), seed)
	if err != nil {
		t.Fatal(err)
	}
	return made
}
