package broker_test

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
)

// roll is which agents there are.
type roll struct {
	mu   sync.Mutex
	keys []string
}

func (r *roll) add(keys ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append(r.keys, keys...)
}

func (r *roll) remove(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = slices.DeleteFunc(r.keys, func(k string) bool { return k == key })
}

func (r *roll) known(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.keys, key)
}

// guest is a client that tells when the server has ended its connection.
type guest struct {
	*nats.Conn
	gone chan struct{} // closed then
}

func newGuest(t *testing.T, b *broker.Broker, credentials []byte) guest {
	t.Helper()
	g := guest{gone: make(chan struct{})}
	var err error
	g.Conn, err = nats.Connect(b.URL(), nats.UserCredentials(credentialsFile(t, credentials)), nats.MaxReconnects(0),
		nats.ClosedHandler(func(*nats.Conn) { close(g.gone) }))
	if err != nil { // disconnected before it knew that it was connected
		close(g.gone)
		return g
	}
	t.Cleanup(g.Close)
	return g
}

// mustGo waits until the server has ended the connection.
func (g guest) mustGo(t *testing.T, who string) {
	t.Helper()
	select {
	case <-g.gone:
	case <-time.After(patience):
		t.Errorf("%s is still connected", who)
	}
}

func TestAgentsThatNobodyKnowsAreDisconnected(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *broker.Broker{
		"embedded": func(t *testing.T) *broker.Broker { return start(t, broker.Options{}) },
		"external": func(t *testing.T) *broker.Broker {
			b, _ := external(t, func(*broker.External) {})
			return b
		},
		"exported": func(t *testing.T) *broker.Broker {
			dir := filepath.Join(t.TempDir(), "bus")
			start(t, broker.Options{Dir: dir}).Close()
			return start(t, broker.Options{Dir: dir, External: runExported(t, dir).external})
		},
	} {
		t.Run(name, func(t *testing.T) { checkAdmission(t, start(t)) })
	}
}

// checkAdmission lets agents connect before and after those that are known are
// told, and others who are no agents.
func checkAdmission(t *testing.T, b *broker.Broker) {
	t.Helper()
	members := &roll{}
	var welcome, unwelcome []guest
	for range 3 {
		known, key := hostKeys(t, b, "web1")
		members.add(key)
		unknown, _ := hostKeys(t, b, "web1")
		welcome, unwelcome = append(welcome, newGuest(t, b, known)), append(unwelcome, newGuest(t, b, unknown))
	}
	enroller, _ := stranger(t, b)
	for _, g := range append(slices.Clone(welcome), unwelcome...) {
		flush(t, g.Conn) // before it is told who is known, all are let in
	}
	b.Admit(members.known)
	for _, g := range unwelcome {
		g.mustGo(t, "an agent that was connected before")
	}
	late, _ := hostKeys(t, b, "web2")
	newGuest(t, b, late).mustGo(t, "an agent that connects")

	enrolled, key := hostKeys(t, b, "web3")
	members.add(key) // as a host is known before it gets its credentials
	web3 := newGuest(t, b, enrolled)
	welcome = append(welcome, web3)
	next, nextKey := hostKeys(t, b, "web3") // it rotates
	members.add(nextKey)
	rotated := newGuest(t, b, next)
	members.remove(key) // confirmed; what it was before must not connect any more
	newGuest(t, b, enrolled).mustGo(t, "an agent with credentials from before a rotation")
	for _, g := range append(welcome, rotated) {
		flush(t, g.Conn)
	}
	flush(t, enroller)
	flush(t, b.Agents())
	if err := b.Healthy(); err != nil {
		t.Error(err)
	}
}

// More agents than a server tells of at once.
func TestManyAgentsThatNobodyKnowsAreDisconnected(t *testing.T) {
	b := start(t, broker.Options{})
	members := &roll{}
	known, key := hostKeys(t, b, "web1")
	unknown, _ := hostKeys(t, b, "web2")
	members.add(key)
	var unwelcome []guest
	first := newGuest(t, b, known)
	for range 300 {
		unwelcome = append(unwelcome, newGuest(t, b, unknown))
	}
	last := newGuest(t, b, known)
	b.Admit(members.known)
	for _, g := range unwelcome {
		g.mustGo(t, "one of many")
	}
	flush(t, first.Conn)
	flush(t, last.Conn)
}
