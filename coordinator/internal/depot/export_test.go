package depot

import (
	"io"
	"time"
)

// Hurry makes a server, before it serves anybody, as impatient as a test is.
func (s *Server) Hurry(handshake, request, keepalive time.Duration) {
	s.times = times{handshake: handshake, request: request, keepalive: keepalive}
}

// NewGuard returns what looks at a client's requests.
func NewGuard(to io.Writer) io.Writer { return &guard{to: to} }

// How many connections there may be.
const (
	MaxConnections = maxConnections
	MaxStrangers   = maxStrangers
	MaxAttended    = maxAttended
	MaxPerAddress  = maxPerAddress
	MaxPerHost     = maxPerHost
)
