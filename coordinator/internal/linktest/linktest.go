// Package linktest holds the suite that every link between the coordinator and
// a host passes, whatever is between the two: an agent on the bus, an SSH
// connection, or nothing.
package linktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Link is the coordinator's side of a link, as dispatch and whoever reads
// streams see it.
type Link interface {
	Order(ctx context.Context, host string, order bus.Order) (bus.OrderReply, error)
	Cancel(ctx context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error)
	Present(ctx context.Context, host, instance string) bool
	Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser
}

// Subject is a link with one host behind it, which is there.
type Subject struct {
	Host string
	Link func() Link // as it is now
	// RestartHost ends what runs the host's jobs without a word, and starts it
	// again. What it has started goes on.
	RestartHost func()
	// RestartCoordinator does the same with the coordinator's side; for a link
	// whose sides are one it is nil.
	RestartCoordinator func()
	// Cut makes the host unreachable, and returns when the link knows. Mend undoes
	// it.
	Cut, Mend func()
}

// Patience is how long the suite waits for anything.
const Patience = time.Minute

// Repository is what the suite's jobs are for, and Passphrase its passphrase,
// which must reach what plays borg.
const (
	Repository = "main"
	Passphrase = "pass phrase of linktest"
)

// scene is one subject in one test.
type scene struct {
	Subject
	t    *testing.T
	core *Coordinator
	dir  string // where what plays borg leaves its traces
}

// Run runs the suite. make returns a fresh subject whose host tells everything
// to core, and runs the program at borg as borg. It ends the subject by
// t.Cleanup.
func Run(t *testing.T, make func(t *testing.T, core *Coordinator, borg string) Subject) {
	for name, test := range map[string]func(*scene){
		"an order is taken once":                    (*scene).orderedOnce,
		"an order is refused":                       (*scene).refused,
		"another run of the host is asked":          (*scene).anotherInstance,
		"a host that nobody knows":                  (*scene).unknownHost,
		"a host that is away":                       (*scene).away,
		"cancelled before the order":                (*scene).cancelledBefore,
		"cancelled while it runs":                   (*scene).cancelledWhile,
		"cancelled by a verdict":                    (*scene).cancelledByVerdict,
		"cancelled after the end":                   (*scene).cancelledAfter,
		"both sides begin again":                    (*scene).restarted,
		"it ends while the host is away":            (*scene).endsAway,
		"it ends while nothing is stored":           (*scene).endsUnstored,
		"what is forgotten is answered for":         (*scene).forgotten,
		"a stream is whole":                         (*scene).streamed,
		"a stream of a job that is not there":       (*scene).streamless,
		"a stream does not survive the host's side": (*scene).streamLost,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			core := NewCoordinator(t)
			s := &scene{t: t, core: core, dir: dir, Subject: make(t, core, player(t, dir))}
			core.until("the host says hello", func() bool { return core.hello.Instance != "" && !core.hello.Away })
			test(s)
			if !t.Failed() {
				core.check()
			}
		})
	}
}

// player makes the program that plays borg. It notes each start and the
// passphrase, tells of its progress, waits while there is a file named hold, and
// ends well. Of a listing it prints much.
func player(t *testing.T, dir string) string {
	t.Helper()
	script := strings.ReplaceAll(`#!/bin/sh
case "$1" in
--version) echo "borg 1.2.4"; exit 0 ;;
list)
	seq 1 `+fmt.Sprint(listed)+` | sed 's/.*/{"path": "file &"}/'
	exit 0 ;;
esac
pass=
if [ -n "$BORG_PASSPHRASE_FD" ]; then pass=$(eval "cat <&$BORG_PASSPHRASE_FD"); fi
echo "$pass" >>'DIR/starts'
log() { echo "{\"type\": \"log_message\", \"time\": 1, \"levelname\": \"WARNING\", \"name\": \"borg\", \"message\": \"$1\"}" >&2; }
log "first"
echo '{"original_size": 7, "compressed_size": 7, "deduplicated_size": 7, "nfiles": 42, "path": "x", "time": 1, "type": "archive_progress", "finished": false}' >&2
while [ -e 'DIR/hold' ]; do sleep 0.05 & wait; done
log "last"
echo '{"archive": {"name": "now", "id": "0123", "duration": 1, "stats": {"original_size": 7, "compressed_size": 7, "deduplicated_size": 7, "nfiles": 42}}, "repository": {"id": "4567", "location": "/srv/main"}, "encryption": {"mode": "repokey"}}'
`, "DIR", dir)
	path := filepath.Join(dir, "borg")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// listed is how many files a listing has.
const listed = 200_000

// order makes an order for the host as it said hello last.
func (s *scene) order(kind job.Kind, spec string) bus.Order {
	s.t.Helper()
	hello := s.core.Newest()
	now := time.Now()
	sealed, err := secret.Seal(secret.FromString(Passphrase), secret.Purpose{Host: s.Host, Repository: Repository}, hello.SealKey)
	if err != nil {
		s.t.Fatal(err)
	}
	return bus.Order{
		Host: s.Host, Instance: hello.Instance, Job: job.NewID(now), Attempt: 1, IssuedAt: now, ExpiresAt: now.Add(bus.OrderLifetime),
		Kind: kind, Spec: json.RawMessage(spec), Archive: "now", Passphrase: &sealed,
		Repository: job.Repository{Name: Repository, Location: "/srv/main", Encryption: job.Repokey},
	}
}

func (s *scene) backup() bus.Order { return s.order(job.Backup, `{"paths":["/etc"]}`) }

// send hands an order over, until the host is there for it.
func (s *scene) send(order bus.Order) bus.OrderReply {
	s.t.Helper()
	var reply bus.OrderReply
	patience.Until(s.t, "the host is there for an order", func() bool {
		var err error
		reply, err = s.Link().Order(s.t.Context(), s.Host, order)
		if err != nil && !errors.Is(err, fleet.ErrHostAway) {
			s.t.Fatalf("order: %v", err)
		}
		return err == nil
	})
	return reply
}

func (s *scene) accepted(order bus.Order) {
	s.t.Helper()
	if reply := s.send(order); !reply.Accepted || reply.Failure != nil || reply.Stamp.Journal == "" {
		s.t.Fatalf("order answered with %+v (%v)", reply, reply.Failure)
	}
}

// hold keeps what plays borg from ending until the returned function is called.
func (s *scene) hold() (release func()) {
	s.t.Helper()
	path := filepath.Join(s.dir, "hold")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	release = func() { _ = os.Remove(path) }
	s.t.Cleanup(release)
	return release
}

// starts returns the passphrases that what plays borg was started with.
func (s *scene) starts() []string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "starts"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func (s *scene) ranOnce() {
	s.t.Helper()
	if got := s.starts(); len(got) != 1 || got[0] != Passphrase {
		s.t.Errorf("borg was started with %q, want once with the passphrase", got)
	}
}

func (s *scene) ends(order bus.Order, want job.State) job.Event {
	s.t.Helper()
	var end job.Event
	s.core.until(fmt.Sprintf("%s ends", order.Job), func() bool {
		events := s.core.events[keyOf(order)]
		if n := len(events); n > 0 && events[n-1].Type == job.EventFinished {
			end = events[n-1].Event
			return true
		}
		return false
	})
	if end.State != want {
		s.t.Errorf("%s ended as %s (%v), want %s", order.Job, end.State, end.Failure, want)
	}
	return end
}

// begins waits until borg runs.
func (s *scene) begins(order bus.Order) {
	s.t.Helper()
	s.core.until("borg starts", func() bool { return s.core.has(order, job.EventStarted) })
	s.core.until("borg tells of itself", func() bool { return s.core.has(order, job.EventLog) })
}

func isAway(err error) bool { return errors.Is(err, fleet.ErrHostAway) }
