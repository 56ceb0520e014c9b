package broker

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
)

// Kinds of refusals.
const (
	RefusedPublish        = "publish"
	RefusedSubscribe      = "subscribe"
	RefusedAuthentication = "authentication"
	RefusedHandshake      = "handshake" // of TLS: a client that does not trust us, or is none
)

// Bounds of what is logged of refusals.
const (
	refusalWindow   = time.Minute // one line and one summary for each client in it
	refusalClients  = 256         // whose lines are kept apart
	refusalsByOther = "others"
)

// refusal is something that the server did not let a client do.
type refusal struct {
	kind    string
	client  string // address and identity, without what differs between connections
	subject string // empty for authentication
}

// The server writes a client before its messages: its address, the number of
// the connection, what it calls itself, and account and identity once these
// are known. Whatever a client chooses is quoted, and cannot be taken for a
// message.
var (
	clientPattern    = regexp.MustCompile(`^(\S+):\d+ - [mw]?[a-z_]*id:\d+(?: - "(?:[^"\\]|\\.)*")*?(?: - "((?:[^"\\]|\\.)*)")?$`)
	subscribePattern = regexp.MustCompile(`^(.*) - Subscription Violation(?: Too Many Tokens)? - Subject ("(?:[^"\\]|\\.)*"), (?:Queue: "(?:[^"\\]|\\.)*", )?SID \S*$`)
)

// The formats with which the server logs other refusals; the client is part of
// the format.
const (
	publishFormat     = " - Publish Violation - Subject %q"
	replyFormat       = " - Publish Violation - Reply %q"
	credentialsFormat = " - %v - %s" // an error, and who
	handshakeFormat   = " - TLS handshake error: %v%s"
)

// refusalOf reads what the server logs as an error.
func refusalOf(format string, args []any) (refusal, bool) {
	for _, known := range []string{publishFormat, replyFormat} {
		if client, ok := strings.CutSuffix(format, known); ok && len(args) == 1 {
			return refusal{RefusedPublish, whoIs(client), fmt.Sprintf("%q", args[0])}, true
		}
	}
	if client, ok := strings.CutSuffix(format, credentialsFormat); ok && len(args) == 2 {
		if err, isError := args[0].(error); isError && errors.Is(err, server.ErrAuthentication) {
			return refusal{RefusedAuthentication, whoIs(client), ""}, true
		}
	}
	if client, ok := strings.CutSuffix(format, handshakeFormat); ok {
		return refusal{RefusedHandshake, whoIs(client), ""}, true
	}
	if client, ok := strings.CutSuffix(format, " - "+server.ErrAuthentication.Error()); ok {
		return refusal{RefusedAuthentication, whoIs(client), ""}, true
	}
	if parts := subscribePattern.FindStringSubmatch(format); parts != nil {
		return refusal{RefusedSubscribe, whoIs(parts[1]), parts[2]}, true
	}
	return refusal{}, false
}

// whoIs shortens the server's words for a client to its host and its identity.
func whoIs(client string) string {
	client = strings.ReplaceAll(client, "%%", "%")
	parts := clientPattern.FindStringSubmatch(client)
	if parts == nil {
		return client
	}
	return strings.TrimSpace(parts[1] + " " + parts[2])
}

// refusals counts what the server refuses, and logs it without letting a
// client fill the log: the first of a kind at once, the number of those that
// follow a minute later.
type refusals struct {
	logger hclog.Logger

	mu      sync.Mutex
	counts  map[string]uint64
	recent  map[refusal]*recentRefusal // without subjects
	stopped bool
}

type recentRefusal struct {
	more  int // since the line that was logged
	timer *time.Timer
}

func newRefusals(logger hclog.Logger) *refusals {
	return &refusals{logger: logger, counts: map[string]uint64{}, recent: map[refusal]*recentRefusal{}}
}

// add takes in one refusal.
func (r *refusals) add(refused refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[refused.kind]++
	subject := refused.subject
	refused.subject = ""
	if _, known := r.recent[refused]; !known && len(r.recent) >= refusalClients {
		refused.client = refusalsByOther
	}
	if recent, known := r.recent[refused]; known {
		recent.more++
		return
	}
	if r.stopped {
		return
	}
	r.logger.Warn("the bus refused a client", "what", refused.kind, "subject", subject, "client", refused.client)
	r.recent[refused] = &recentRefusal{timer: time.AfterFunc(refusalWindow, func() { r.summarise(refused) })}
}

// summarise logs how many followed, and lets the next one be logged at once.
func (r *refusals) summarise(refused refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	recent := r.recent[refused]
	delete(r.recent, refused)
	if recent.more > 0 && !r.stopped {
		r.logger.Warn("the bus refused a client again", "what", refused.kind, "client", refused.client, "times", recent.more, "within", refusalWindow)
	}
}

// total returns the counts by kind.
func (r *refusals) total() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// stop ends the logging.
func (r *refusals) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, recent := range r.recent {
		recent.timer.Stop()
	}
}
