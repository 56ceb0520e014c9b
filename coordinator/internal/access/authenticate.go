package access

import (
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// tokenUseEvery is how exact the time of a token's last use is.
const tokenUseEvery = time.Hour

// Authenticate says who sent a request: by its bearer token, else by its
// session's cookie. A token that is wrong or over is NotAuthenticated; without
// credentials, or with those of a session that is over, nobody is known.
func (s *Service) Authenticate(r *http.Request) (actor fleet.Actor, known bool, err error) {
	s.flushDue()
	if token, ok := bearer(r); ok {
		actor, err = s.byToken(token)
		known = err == nil
	} else {
		actor, known, err = s.bySession(r)
	}
	if !known {
		return fleet.Actor{}, false, err
	}
	actor.From = origin(r)
	return actor, true, nil
}

// origin returns where a request came from, as it stands in an actor.
func origin(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "http " + host
}

func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

// byToken returns whom a token stands for, and notes that it was used.
func (s *Service) byToken(token string) (fleet.Actor, error) {
	hash := hashOf(token)
	if subtle.ConstantTimeCompare([]byte(hash), []byte(s.local)) == 1 {
		return fleet.Actor{Name: fleet.Local, Role: bus.Admin}, nil
	}
	record, found, err := s.store.APITokenByHash(hash)
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("read token: %w", err)
	}
	now := s.now()
	if !found || !now.Before(record.ExpiresAt) {
		return fleet.Actor{}, badToken()
	}
	actor := fleet.Actor{Name: "token:" + record.Name, Role: record.Role}
	if record.User != "" {
		user, found, err := s.store.User(record.User)
		if err != nil {
			return fleet.Actor{}, fmt.Errorf("read user: %w", err)
		}
		if !found {
			return fleet.Actor{}, badToken()
		}
		actor = fleet.Actor{Name: fleet.Person(user.Name), Role: user.Role}
	}
	if record.LastUsed == nil || now.Sub(*record.LastUsed) >= tokenUseEvery {
		record.LastUsed = &now
		s.note("use of a token", store.PutAPIToken(record))
	}
	return actor, nil
}

func badToken() error {
	return job.Fail(job.NotAuthenticated, "the token is wrong, or is over, or was removed").
		WithHint("borgfleet login makes a new one; on the coordinator's own machine root needs none")
}

// note stores when something was used. That is worth no failed request, and the
// next one tries again.
func (s *Service) note(what string, change store.Change) {
	if _, err := s.store.Apply(change); err != nil {
		s.logger.Warn("note "+what, "err", err)
	}
}
