package broker_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// exported is an embedded bus that was exported, and the server that has taken
// its place.
type exported struct {
	dir      string // of the bus
	export   broker.Export
	external *broker.External
	server   *server.Server
}

// runExported takes an embedded bus's place after it has ended.
func runExported(t *testing.T, dir string) *exported {
	t.Helper()
	e := &exported{dir: dir, export: broker.Export{Dir: dir, Target: filepath.Join(t.TempDir(), "exported"), Listen: "127.0.0.1:-1"}}
	var err error
	if e.external, err = e.export.Write(); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(filepath.Join(e.export.Target, "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs = true
	if e.server, err = server.NewServer(options); err != nil {
		t.Fatal(err)
	}
	e.server.Start()
	t.Cleanup(func() { e.server.Shutdown(); e.server.WaitForShutdown() })
	if !e.server.ReadyForConnections(patience) {
		t.Fatal("the exported server does not accept clients")
	}
	e.external.URLs = []string{e.server.ClientURL()}
	return e
}

func TestAnExportedBusHasTheSameIdentities(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	embedded := start(t, broker.Options{Dir: dir})
	before, _ := hostKeys(t, embedded, "web1")
	revoked, key := hostKeys(t, embedded, "web2")
	if err := embedded.RevokeAgent(key); err != nil {
		t.Fatal(err)
	}
	alice, _, err := embedded.MintOperator("alice", bus.Operator)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := embedded.Signer().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	embedded.Close()
	e := runExported(t, dir)
	b := start(t, broker.Options{Dir: dir, External: e.external})
	if err := b.Healthy(); err != nil {
		t.Errorf("healthy: %v", err)
	}
	if now, err := b.Signer().PublicKey(); err != nil || now != signer {
		t.Errorf("orders are signed by %s (%v), hosts believe %s", now, err, signer)
	}
	web1, _ := client(t, b, before, nats.CustomInboxPrefix(bus.InboxPrefix("web1")))
	if ack := publish(t, web1, "web1", job.NewID(time.Now()), 1); ack.Sequence != 1 {
		t.Errorf("confirmation %+v", ack)
	}
	if connection, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, revoked)), nats.MaxReconnects(0)); err == nil {
		connection.Close()
		t.Error("who was revoked before is let in")
	}
	later, _ := hostKeys(t, b, "web3") // enrolled since; it renews
	claims, err := jwt.DecodeUserClaims(tokenOf(t, later))
	if err != nil || claims.Expires == 0 {
		t.Errorf("a new host's credentials end %d (%v)", claims.Expires, err)
	}
	web3, _ := client(t, b, later)
	flush(t, web3)
	operator, _ := client(t, b, alice)
	flush(t, operator)
	if name, role, known := b.Operator(tokenOf(t, alice)); name != "alice" || role != bus.Operator || !known {
		t.Errorf("alice is %q, %q (%v)", name, role, known)
	}
	stranger(t, b)
}

// TestPeopleOfAnExportedBus are still made and revoked by the coordinator.
func TestPeopleOfAnExportedBus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	start(t, broker.Options{Dir: dir}).Close()
	e := runExported(t, dir)
	b := start(t, broker.Options{Dir: dir, External: e.external})
	bob, key, err := b.MintOperator("bob", bus.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	connection, _ := client(t, b, bob, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	flush(t, connection)
	if err := b.RevokeOperator(key); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("bob is still connected")
	}
	if _, _, known := b.Operator(tokenOf(t, bob)); known {
		t.Error("bob's requests are still taken")
	}
	e.export.Force = true
	trusted := filepath.Join(e.export.Target, "operator.jwt")
	before, _ := os.Stat(trusted)
	if _, err := e.export.Write(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(trusted); err != nil || !os.SameFile(before, after) {
		t.Errorf("whom a running server trusts was written again (%v), and it cannot read that", err)
	}
	if err := e.server.Reload(); err != nil {
		t.Fatal(err)
	}
	if connection, err := nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, bob)), nats.MaxReconnects(0)); err == nil {
		connection.Close()
		t.Error("bob is let in after the server has read the new export")
	}
}

func TestAnExportIsPrivateAndWritesOverNothing(t *testing.T) {
	dir, target := filepath.Join(t.TempDir(), "bus"), filepath.Join(t.TempDir(), "exported")
	export := broker.Export{Dir: dir, Target: target, Listen: "127.0.0.1:4222"}
	if _, err := export.Write(); job.AsFailure(err).Code != job.InvalidRequest {
		t.Errorf("without a bus: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a bus was made by its export")
	}
	b := start(t, broker.Options{Dir: dir}) // it may run meanwhile
	if _, err := export.Write(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(target, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(); job.AsFailure(err).Code != job.Conflict {
		t.Errorf("a second time: %v", err)
	}
	export.Target = t.TempDir()
	if err := os.Chmod(export.Target, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := export.Write(); job.AsFailure(err).Code != job.NotAllowed {
		t.Errorf("into a directory that is open to others: %v", err)
	}
	if err := b.Healthy(); err != nil {
		t.Errorf("the embedded bus: %v", err)
	}
}
