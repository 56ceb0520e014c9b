package depot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	maxMissed = 3 // questions whether it is there that a client leaves open
	maxTries  = 3 // keys that a client may show
)

// The ciphers that are fast here, and the one that every client knows. What a
// client likes best of these is taken, and most like ChaCha20 best, which costs
// more than AES on machines that have instructions for it.
var ciphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES256CTR}

// Names of what a login has found out.
const (
	extensionHost = "host"
	extensionKey  = "key"
)

// connection is one client's.
type connection struct {
	server *Server
	conn   *ssh.ServerConn
	host   string
	key    string          // that it has shown
	gone   context.Context // done when the connection is over
}

// ServeConn answers one connection, also one that came another way than over the
// server's port, and returns when it is over. from names where it comes from, by
// something that whoever made it cannot choose; empty: its address.
func (s *Server) ServeConn(c net.Conn, from string) {
	defer c.Close()
	from = cmp.Or(from, address(c))
	defer context.AfterFunc(s.over, func() { c.Close() })()
	conn, channels, requests, err := s.welcome(c, from)
	if err != nil {
		s.refuse("", "login refused", "from", from, "err", err)
		return
	}
	defer conn.Close()
	host := conn.Permissions.Extensions[extensionHost]
	if refused := s.places.host(host); refused != "" {
		s.refuse(conn.User(), refused, "host", host, "from", from)
		return
	}
	defer s.places.left(host)
	gone, left := context.WithCancel(context.Background())
	go func() {
		defer left()
		conn.Wait()
	}()
	go s.attend(conn, gone)
	go ssh.DiscardRequests(requests) // forwards among them
	client := &connection{server: s, conn: conn, host: host, key: conn.Permissions.Extensions[extensionKey], gone: gone}
	client.serve(channels)
}

// welcome finds out who is there, when there is a place for a stranger.
func (s *Server) welcome(c net.Conn, from string) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	if !s.places.enter(from) {
		return nil, nil, nil, errors.New("too many others have not proved yet who they are")
	}
	defer s.places.leave(from)
	patience, cancel := context.WithTimeout(s.over, s.times.handshake)
	defer cancel()
	if !s.places.greet(patience, from) {
		return nil, nil, nil, fmt.Errorf("%d others, or %d of its address, have not proved yet who they are", maxAttended, maxOfAddress)
	}
	defer s.places.greeted(from)
	return s.greet(c)
}

// greet finds out who is there. Not every connection has deadlines of its own.
func (s *Server) greet(c net.Conn) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	defer time.AfterFunc(s.times.handshake, func() { c.Close() }).Stop()
	config := &ssh.ServerConfig{
		Config:            ssh.Config{Ciphers: ciphers},
		MaxAuthTries:      maxTries,
		PublicKeyCallback: s.authenticate,
		ServerVersion:     "SSH-2.0-borgfleet",
	}
	config.AddHostKey(s.key)
	return ssh.NewServerConn(c, config)
}

// authenticate lets in whoever has the key of a host. What the host may do is
// looked at with each request: only then has it proved that the key is its own,
// and can be told why not.
func (s *Server) authenticate(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if err := job.CheckRepositoryName("user", meta.User()); err != nil {
		return nil, err
	}
	text := keyText(key)
	grant, failure := s.options.Grant(text, meta.User())
	if failure != nil && grant.Host == "" {
		return nil, failure
	}
	return &ssh.Permissions{Extensions: map[string]string{extensionHost: grant.Host, extensionKey: text}}, nil
}

// refuse counts and logs what was not let in; of many only some are logged.
func (s *Server) refuse(repository, message string, about ...any) {
	if repository != "" && !s.exists(repository) {
		repository = "" // it may be a client's invention
	}
	s.meter.of(repository).refused.Add(1)
	s.refused.Do(func() { s.logger.Warn(message, append(about, "repo", repository)...) })
}

// attend ends a connection whose client does not answer any more.
func (s *Server) attend(conn ssh.Conn, gone context.Context) {
	ticks := time.NewTicker(s.times.keepalive)
	defer ticks.Stop()
	answers := make(chan struct{}, 1)
	waiting, missed := false, 0
	for {
		select {
		case <-gone.Done():
			return
		case <-answers:
			waiting, missed = false, 0
		case <-ticks.C:
			if waiting {
				if missed++; missed == maxMissed {
					conn.Close()
					return
				}
				continue
			}
			waiting = true
			go func() {
				if _, _, err := conn.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					answers <- struct{}{}
				}
			}()
		}
	}
}

// serve takes one session, and nothing else: no forwards, no second one.
func (c *connection) serve(channels <-chan ssh.NewChannel) {
	idle := time.AfterFunc(c.server.times.request, func() { c.conn.Close() })
	defer idle.Stop()
	taken := false
	for offer := range channels {
		if offer.ChannelType() != "session" {
			c.server.refuse(c.conn.User(), "forward refused", "host", c.host)
			offer.Reject(ssh.Prohibited, "nothing but borg serve is to be had here")
			continue
		}
		if taken {
			offer.Reject(ssh.ResourceShortage, "one borg for each connection")
			continue
		}
		channel, requests, err := offer.Accept()
		if err != nil {
			return
		}
		taken = true
		go c.session(channel, requests, idle)
	}
}

// session answers what is asked for in a session: to run something, once.
func (c *connection) session(channel ssh.Channel, requests <-chan *ssh.Request, idle *time.Timer) {
	running := false
	for request := range requests {
		var wanted struct{ Command string }
		switch {
		case request.Type == "exec" && !running && ssh.Unmarshal(request.Payload, &wanted) == nil:
			running = true
			idle.Stop()
			request.Reply(true, nil)
			go c.execute(channel, wanted.Command)
		case request.Type == "shell" || request.Type == "subsystem":
			c.server.refuse(c.conn.User(), request.Type+" refused", "host", c.host)
			request.Reply(false, nil)
			if !running {
				channel.Close()
			}
		default: // environment, terminals, agents, X11
			request.Reply(false, nil)
		}
	}
}

// execute runs what was asked for, tells how it ended, and sees the client off.
func (c *connection) execute(channel ssh.Channel, command string) {
	code := c.visit(channel, command)
	time.AfterFunc(farewellTime, func() { c.conn.Close() }) // it leaves by itself, or else
	channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
	channel.Close()
}
