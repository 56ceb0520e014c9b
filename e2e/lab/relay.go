package lab

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	chunkSize = 32 << 10
	chunks    = 128 // under way in one direction of a connection: 4 MiB
)

// relay passes connections on, over the links of a route.
type relay struct {
	target string
	there  []hop
	back   []hop
	done   chan struct{} // closed when the test ends
	actors sync.WaitGroup
}

// startRelay returns the address at which it listens.
func startRelay(l *Lab, target string, route []hop) string {
	l.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(l.Hub(), "0"))
	if err != nil {
		l.t.Fatal(err)
	}
	r := &relay{target: target, there: route, done: make(chan struct{})}
	for _, h := range slices.Backward(route) {
		r.back = append(r.back, h.back())
	}
	r.actors.Go(func() { r.accept(listener) })
	l.t.Cleanup(func() {
		close(r.done)
		_ = listener.Close()
		r.actors.Wait()
	})
	return listener.Addr().String()
}

func (r *relay) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // it is closed
		}
		r.actors.Go(func() { r.serve(client.(*net.TCPConn)) })
	}
}

// serve connects to the server when the way there is free, and passes bytes in
// both directions until both are closed.
func (r *relay) serve(client *net.TCPConn) {
	if !awaitAll(r.there, r.done) {
		reset(client)
		return
	}
	connection, err := net.Dial("tcp", r.target)
	if err != nil {
		if awaitAll(r.back, r.done) {
			reset(client)
		}
		return
	}
	server := connection.(*net.TCPConn)
	var pumps sync.WaitGroup
	pumps.Go(func() { r.pump(server, client, r.there) })
	pumps.Go(func() { r.pump(client, server, r.back) })
	over := make(chan struct{})
	go func() { pumps.Wait(); close(over) }()
	select {
	case <-over:
		_, _ = client.Close(), server.Close() // each has been told of the other's end
	case <-r.done:
		reset(client)
		reset(server)
		<-over
	}
}

// chunk is what was read at once, or the end of a connection.
type chunk struct {
	data []byte
	end  error // io.EOF: closed in order
	due  time.Time
}

// pump passes what comes from one side to the other, its end too.
func (r *relay) pump(to, from *net.TCPConn, way []hop) {
	queue, broken := make(chan chunk, chunks), make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { r.read(from, way, queue, broken) })
	r.write(to, way, queue)
	close(broken)
	reader.Wait()
}

// read queues what comes, with the time at which it is due at the other side.
func (r *relay) read(from *net.TCPConn, way []hop, queue chan<- chunk, broken <-chan struct{}) {
	for {
		data := make([]byte, chunkSize)
		n, err := from.Read(data)
		c := chunk{data: data[:n], end: err, due: time.Now()}
		for _, h := range way {
			c.due = c.due.Add(h.delay())
		}
		select {
		case queue <- c:
		case <-broken:
			return
		}
		if err != nil {
			return
		}
	}
}

// write writes what is queued until the connection's end.
func (r *relay) write(to *net.TCPConn, way []hop, queue <-chan chunk) {
	for c := range queue {
		if !r.awaitDue(c.due) || !awaitAll(way, r.done) {
			return
		}
		if _, err := to.Write(c.data); err != nil {
			return // the other direction finds that out, too
		}
		if errors.Is(c.end, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if c.end != nil {
			reset(to)
			return
		}
	}
}

func (r *relay) awaitDue(due time.Time) bool {
	ahead := time.Until(due)
	if ahead <= 0 {
		return true
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.done:
		return false
	}
}

// awaitAll waits until bytes pass every hop of a way.
func awaitAll(way []hop, done <-chan struct{}) bool {
	for _, h := range way {
		if !h.await(done) {
			return false
		}
	}
	return true
}

// reset closes a connection so that the other side gets an error.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
