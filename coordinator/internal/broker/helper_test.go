package broker_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hostKeys are made on a host: an agent's key, and the text of its credentials
// once the bus has authorized it.
func hostKeys(t testing.TB, b *broker.Broker, host string) (credentials []byte, publicKey string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if publicKey, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	token, err := b.AuthorizeAgent(host, publicKey)
	if err != nil {
		t.Fatal(err)
	}
	if credentials, err = jwt.FormatUserConfig(token, seed); err != nil {
		t.Fatal(err)
	}
	return credentials, publicKey
}

// operatorToken mints an operator called alice.
func operatorToken(t testing.TB, b *broker.Broker, role bus.Role) (token, publicKey string) {
	t.Helper()
	credentials, publicKey, err := b.MintOperator("alice", role)
	if err != nil {
		t.Fatal(err)
	}
	return tokenOf(t, credentials), publicKey
}

// tokenOf returns the JWT in the text of a .creds file.
func tokenOf(t testing.TB, credentials []byte) string {
	t.Helper()
	token, err := nkeys.ParseDecoratedJWT(credentials)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// credentialsFile writes credentials where nats.go reads them.
func credentialsFile(t testing.TB, credentials []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "client.creds")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func pubAck(t testing.TB, reply *nats.Msg) jetstream.PubAck {
	t.Helper()
	var answer struct {
		jetstream.PubAck
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		t.Fatalf("answer %q: %v", reply.Data, err)
	}
	if answer.Error != nil {
		t.Fatalf("the stream refused: %s", answer.Error)
	}
	return answer.PubAck
}

// streamSubject is where an agent's event lies in the stream.
func streamSubject(host string, id job.ID) string {
	return strings.Replace(bus.StreamSubjects, "*.*", host+"."+string(id), 1)
}
