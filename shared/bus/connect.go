package bus

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go"
)

// Permissions is an allow-list of subjects for one client.
type Permissions struct {
	Publish   []string
	Subscribe []string
	Responses bool // may answer a request once, within a minute
}

// AgentPermissions is all that an agent may do. The name may be a permission
// template such as "{{name()}}".
func AgentPermissions(name string) Permissions {
	return Permissions{
		Publish:   []string{Prefix + ".agent." + name + ".>"},
		Subscribe: []string{Prefix + ".cmd." + name + ".>", InboxPrefix(name) + ".>"},
		Responses: true,
	}
}

// ConnectOptions are the choices that differ between clients.
type ConnectOptions struct {
	Name         string      // shown in the server's connection list; also the inbox
	Credentials  string      // path of a .creds file; empty in-process
	TLS          *tls.Config // nil: plain, or the system's roots for tls:// URLs
	OnConnect    func()      // after the first connect and every reconnect; must not block
	OnDisconnect func(error) // must not block
	OnFailure    func(error) // an attempt to connect failed, and is repeated; must not block
	OnError      func(error) // permission violations, slow consumers; must not block
	// Reconnect says how long to wait before the next try to connect, after the
	// number of those that failed; nil: [ReconnectDelay].
	Reconnect func(failures int) time.Duration
}

// Options turns o into the nats.go options that every client of ours uses:
// reconnect for ever with full jitter, no reconnect buffer (spools are ours),
// quick notice of a dead link, own inbox.
func (o ConnectOptions) Options() []nats.Option {
	if o.Reconnect == nil {
		o.Reconnect = ReconnectDelay
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.CustomInboxPrefix(InboxPrefix(o.Name)),
		nats.PingInterval(PingInterval), nats.MaxPingsOutstanding(PingsOut),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(o.Reconnect), nats.ReconnectBufSize(-1),
		nats.Timeout(10 * time.Second), nats.SetCustomDialer(&net.Dialer{Timeout: DialTimeout}), nats.FlusherTimeout(10 * time.Second),
		nats.ConnectHandler(func(*nats.Conn) { call(o.OnConnect) }),
		nats.ReconnectHandler(func(*nats.Conn) { call(o.OnConnect) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { callWith(o.OnFailure, err) }), // of the first connect, too
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { callWith(o.OnDisconnect, err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { callWith(o.OnError, err) }),
	}
	if o.Credentials != "" {
		options = append(options, userCredentials(o.Credentials))
	}
	if o.TLS != nil {
		options = append(options, nats.Secure(o.TLS))
	}
	return options
}

// IsLoopback reports whether a host name or an IP address can only mean this
// very machine, so that what goes there needs no TLS.
func IsLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

// ReconnectDelay is exponential with full jitter, between 50 ms and
// MaxReconnectGap.
func ReconnectDelay(failures int) time.Duration { return reconnectDelay(failures, MaxReconnectGap) }

// UrgentDelay is the same for a client that has something to tell: at most
// UrgentGap.
//
// That is bearable for a whole fleet. Only those hosts are that quick at which
// something runs or whose results are not stored, and the coordinator's limit of
// running jobs bounds how many those are. While it is away, a refused try costs
// one packet each way; when it is back, a thousand handshakes spread over a
// second cost it about that second.
func UrgentDelay(failures int) time.Duration { return reconnectDelay(failures, UrgentGap) }

func reconnectDelay(failures int, most time.Duration) time.Duration {
	ceiling := min(250*time.Millisecond<<min(failures, 10), most)
	return 50*time.Millisecond + rand.N(ceiling)
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func callWith(f func(error), err error) {
	if f != nil {
		f(err)
	}
}
