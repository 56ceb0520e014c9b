package broker_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/job"
)

// link leads to a server, and can be cut.
type link struct {
	net.Listener
	server string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newLink(t *testing.T, url string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{Listener: listener, server: strings.TrimPrefix(url, "nats://")}
	t.Cleanup(func() { _ = listener.Close(); l.set(true) })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			l.lead(conn)
		}
	}()
	return l
}

// lead joins a connection with one to the server.
func (l *link) lead(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there, err := net.Dial("tcp", l.server)
	if err != nil || l.cut {
		_ = conn.Close()
	}
	if err != nil {
		return
	}
	if l.cut {
		_ = there.Close()
		return
	}
	l.conns = append(l.conns, conn, there)
	go func() { _, _ = io.Copy(there, conn); _ = there.Close() }()
	go func() { _, _ = io.Copy(conn, there); _ = conn.Close() }()
}

func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

// TestAgentsAreCutOffWhenTheExternalClusterIsThereAgain: it could not be told
// while it was away, and nobody is told who connected meanwhile.
func TestAgentsAreCutOffWhenTheExternalClusterIsThereAgain(t *testing.T) {
	cluster := start(t, broker.Options{})
	lent, err := cluster.Lend(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	way := newLink(t, cluster.URL())
	lent.URLs = []string{"nats://" + way.Addr().String()}
	dir := filepath.Join(t.TempDir(), "bus")
	b := start(t, broker.Options{Dir: dir, External: lent})
	credentials, key := hostKeys(t, b, "web1")
	connect := func() <-chan struct{} {
		closed := make(chan struct{})
		connection, err := nats.Connect(cluster.URL(), nats.UserCredentials(credentialsFile(t, credentials)), nats.MaxReconnects(0),
			nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(connection.Close)
		return closed
	}
	wantOff := func(when string, closed <-chan struct{}) {
		t.Helper()
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatalf("still connected %s", when)
		}
	}
	closed := connect()
	gone := b.System().StatusChanged(nats.RECONNECTING)
	way.set(true)
	<-gone
	if err := b.RevokeAgent(key); err == nil {
		t.Error("a cluster that is away was told")
	}
	way.set(false)
	wantOff("when the cluster was there again", closed)
	b.Close()
	closed = connect() // the cluster itself believes the credentials until they expire
	start(t, broker.Options{Dir: dir, External: lent})
	wantOff("when the coordinator was there again", closed)
}

// TestAClusterThatComesLate is waited for, and then everything is there.
func TestAClusterThatComesLate(t *testing.T) {
	cluster := start(t, broker.Options{})
	lent, err := cluster.Lend(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	way := newLink(t, cluster.URL())
	way.set(true)
	lent.URLs = []string{"nats://" + way.Addr().String()}
	b := start(t, broker.Options{External: lent})
	if err := b.Healthy(); err == nil {
		t.Error("all is said to be well without a bus")
	}
	if _, err := b.Consumer(t.Context(), 0); err == nil {
		t.Error("a consumer without a bus")
	}
	way.set(false)
	eventually(t, func() error {
		_, err := b.Consumer(t.Context(), 0)
		return errors.Join(err, b.Healthy())
	})
	web1, _ := agent(t, cluster, "web1")
	publish(t, web1, "web1", job.NewID(time.Now()), 1)
	if got := sequences(t, read(t, b, 0, 1)); got != "1" {
		t.Errorf("read %s", got)
	}
}
