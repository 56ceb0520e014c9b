package broker_test

import (
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// stuckDialer makes connections whose other end can be made to read no more.
type stuckDialer struct {
	stuck chan struct{} // closed: nobody reads
	ended chan struct{} // closed: the test is over
}

func (d stuckDialer) Dial(network, address string) (net.Conn, error) {
	connection, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return stuckConn{connection, d}, nil
}

type stuckConn struct {
	net.Conn
	dialer stuckDialer
}

func (c stuckConn) Read(buffer []byte) (int, error) {
	select {
	case <-c.dialer.stuck:
		<-c.dialer.ended
		return 0, net.ErrClosed
	default:
		return c.Conn.Read(buffer)
	}
}

// TestWhoDoesNotReadIsCutOff, and costs the others nothing: the server keeps at
// most a few megabytes for it.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	b := start(t, broker.Options{})
	token, _ := operatorToken(t, b, bus.Viewer)
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan string, 16)
	if _, err := b.System().Subscribe(bus.Disconnected(claims.IssuerAccount), func(message *nats.Msg) {
		var notice struct{ Reason string }
		_ = json.Unmarshal(message.Data, &notice) // what it is not has no reason
		gone <- notice.Reason
	}); err != nil {
		t.Fatal(err)
	}
	flush(t, b.System())
	dialer := stuckDialer{make(chan struct{}), make(chan struct{})}
	end := sync.OnceFunc(func() { close(dialer.ended) })
	t.Cleanup(end)
	slow, _ := operator(t, b, bus.Viewer, nats.SetCustomDialer(dialer))
	quick, _ := operator(t, b, bus.Viewer)
	got := make(chan struct{}, 16)
	for connection, handle := range map[*nats.Conn]nats.MsgHandler{slow: func(*nats.Msg) {}, quick: func(*nats.Msg) { got <- struct{}{} }} {
		if _, err := connection.Subscribe(bus.Prefix+".event.>", handle); err != nil {
			t.Fatal(err)
		}
		flush(t, connection)
	}
	close(dialer.stuck)
	event := []byte(strings.Repeat("x", 256<<10))
	for range 512 { // far more than socket buffers hold
		if err := b.API().Publish(bus.Prefix+".event.web1.job", event); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
		case <-time.After(patience):
			t.Fatal("who reads is not served")
		}
		select {
		case reason := <-gone:
			if !strings.Contains(reason, "Slow Consumer") {
				t.Errorf("cut off because of %q", reason)
			}
			return
		default:
		}
	}
	select {
	case reason := <-gone:
		t.Logf("cut off late, because of %q", reason)
	case <-time.After(patience):
		t.Error("128 MiB are kept for a client that reads nothing")
	}
}
