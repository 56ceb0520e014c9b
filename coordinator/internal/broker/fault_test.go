package broker_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
)

func TestAServerThatCannotStartIsAnErrorAndNotTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "store"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: logger(t)})
	if err == nil {
		b.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "JetStream") {
		t.Errorf("start without a place for the stream: %v", err)
	}
}

func TestAStartThatIsGivenUpLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, err := broker.Start(ctx, broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: logger(t)})
	if err == nil {
		b.Close()
		t.Fatal("started")
	}
	start(t, broker.Options{Dir: dir})
}

func TestRevocationsThatCannotBeReadStopTheStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	start(t, broker.Options{Dir: dir}).Close()
	if err := os.WriteFile(filepath.Join(dir, "revoked.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: logger(t)})
	if err == nil {
		b.Close()
		t.Error("started as if nobody had been revoked")
	}
}

func TestTheCoordinatorsConnectionsComeBack(t *testing.T) {
	b := start(t, broker.Options{})
	for name, connection := range map[string]*nats.Conn{"agents": b.Agents(), "stream": b.Stream(), "api": b.API()} {
		back := connection.StatusChanged(nats.CONNECTED)
		id, err := connection.GetClientID()
		if err != nil {
			t.Fatal(err)
		}
		kick, err := json.Marshal(map[string]uint64{"cid": id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.System().Request("$SYS.REQ.SERVER."+connection.ConnectedServerId()+".KICK", kick, patience); err != nil {
			t.Fatal(err)
		}
		select {
		case <-back:
		case <-time.After(patience):
			t.Fatalf("connection %s did not come back", name)
		}
	}
	if err := b.Healthy(); err != nil {
		t.Errorf("healthy: %v", err)
	}
}
