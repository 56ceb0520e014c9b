package authority

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	firstByteTime = 10 * time.Second // for a client to say something
	tlsHandshake  = 0x16             // first byte of a TLS connection: a handshake record
)

// Listener makes one port serve both: what begins as TLS is accepted as a
// *tls.Conn, everything else as it is. Whether that is served is up to the
// server. A client that says nothing holds up nobody, and is dropped after 10 s.
// Unless config says otherwise, HTTP/2 and HTTP/1.1 are offered. Close ends
// inner and the connections that Accept has not returned.
func Listener(inner net.Listener, config *tls.Config) net.Listener {
	config = config.Clone()
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	l := &listener{
		Listener: inner, config: config,
		accepted: make(chan accepted), closed: make(chan struct{}), waiting: map[net.Conn]bool{},
	}
	l.running.Go(l.accept)
	return l
}

type listener struct {
	net.Listener
	config   *tls.Config
	accepted chan accepted
	closed   chan struct{}
	running  sync.WaitGroup

	mutex   sync.Mutex
	ended   bool
	waiting map[net.Conn]bool // those whose first byte is awaited
}

// accepted is what Accept returns next.
type accepted struct {
	conn net.Conn
	err  error
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case next := <-l.accepted:
		return next.conn, next.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.mutex.Lock()
	if l.ended {
		l.mutex.Unlock()
		return net.ErrClosed
	}
	l.ended = true
	close(l.closed)
	for conn := range l.waiting {
		_ = conn.Close() // nobody has heard of it
	}
	l.mutex.Unlock()
	err := l.Listener.Close()
	l.running.Wait()
	return err
}

// accept takes connections until the listener is closed. Errors go to who calls
// Accept, which decides how long to wait before the next.
func (l *listener) accept() {
	for {
		conn, err := l.Listener.Accept()
		if err == nil {
			l.running.Go(func() { l.sniff(conn) })
			continue
		}
		if !l.deliver(accepted{err: err}) || errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// deliver hands on what Accept returns; false when the listener was closed.
func (l *listener) deliver(next accepted) bool {
	select {
	case l.accepted <- next:
		return true
	case <-l.closed:
		return false
	}
}

// sniff waits for the first byte and delivers the connection as what it is.
func (l *listener) sniff(conn net.Conn) {
	if !l.wait(conn) {
		_ = conn.Close() // the listener has ended
		return
	}
	first := make([]byte, 1)
	err := conn.SetReadDeadline(time.Now().Add(firstByteTime))
	if err == nil {
		_, err = conn.Read(first)
	}
	err = errors.Join(err, conn.SetReadDeadline(time.Time{}))
	l.mutex.Lock()
	delete(l.waiting, conn)
	l.mutex.Unlock()
	if err != nil {
		_ = conn.Close() // it said nothing
		return
	}
	known := net.Conn(&peeked{Conn: conn, first: first})
	if first[0] == tlsHandshake {
		known = tls.Server(known, l.config)
	}
	if !l.deliver(accepted{conn: known}) {
		_ = conn.Close()
	}
}

// wait notes a connection whose first byte is awaited; false when the listener
// has ended.
func (l *listener) wait(conn net.Conn) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.ended {
		l.waiting[conn] = true
	}
	return !l.ended
}

// peeked is a connection whose first byte has been read already.
type peeked struct {
	net.Conn
	first []byte // until it is read again
}

// Read implements net.Conn.
func (p *peeked) Read(buffer []byte) (int, error) {
	if len(p.first) > 0 && len(buffer) > 0 {
		n := copy(buffer, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(buffer)
}
