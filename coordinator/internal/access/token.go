package access

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// tokenPrefix begins every token, so that a scanner for leaked secrets knows one.
const tokenPrefix = "bft_"

// Bounds of API tokens.
const (
	minTokenLife  = time.Minute
	maxTokenLife  = 2 * 366 * 24 * time.Hour
	loginLife     = 90 * 24 * time.Hour
	keepExpired   = 30 * 24 * time.Hour // so that it can be seen why a program is locked out
	maxLogins     = 50                  // of one user; the oldest make room
	maxLabelRunes = 200
)

// randomText returns 256 random bits in letters, digits, - and _.
func randomText() string {
	bits := make([]byte, 32)
	_, _ = rand.Read(bits) // never fails
	return base64.RawURLEncoding.EncodeToString(bits)
}

// Tokens returns every API token, the oldest first. One that login made has the
// role of its user.
func (s *Service) Tokens(context.Context) ([]fleet.APIToken, error) {
	stored, err := s.store.APITokens()
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	tokens := make([]fleet.APIToken, len(stored))
	for i, token := range stored {
		tokens[i] = token.APIToken
		if token.User == "" {
			continue
		}
		user, _, err := s.store.User(token.User)
		if err != nil {
			return nil, fmt.Errorf("read user: %w", err)
		}
		tokens[i].Role = user.Role
	}
	return tokens, nil
}

// AddToken makes a token that stands for itself, as "token:<name>", and returns
// what it is worth, this once.
func (s *Service) AddToken(_ context.Context, by fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error) {
	if err := checkName("name", asked.Name); err != nil {
		return fleet.APIToken{}, secret.Value{}, err
	}
	if err := checkRole(asked.Role); err != nil {
		return fleet.APIToken{}, secret.Value{}, err
	}
	if asked.Lifetime < minTokenLife || asked.Lifetime > maxTokenLife {
		return fleet.APIToken{}, secret.Value{}, job.Invalid("expires_seconds", "%d is not between %d and %d",
			int64(asked.Lifetime/time.Second), int64(minTokenLife/time.Second), int64(maxTokenLife/time.Second)).
			WithHint("for example 7776000, which is 90 days")
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	tokens, err := s.store.APITokens()
	if err != nil {
		return fleet.APIToken{}, secret.Value{}, fmt.Errorf("read tokens: %w", err)
	}
	for _, other := range tokens { // the audit would not tell them apart
		if other.User == "" && other.Name == asked.Name && s.now().Before(other.ExpiresAt) {
			return fleet.APIToken{}, secret.Value{}, failure(store.ErrExists, "token "+asked.Name)
		}
	}
	return s.addToken(by, fleet.APIToken{Name: asked.Name, Role: asked.Role, ExpiresAt: s.now().Add(asked.Lifetime)}, s.expired(tokens))
}

// LoginToken makes a token that stands for the user who has signed in, for the
// command line. It ends with the user, and at the latest in 90 days. The name
// says where it is kept; an empty one will do.
func (s *Service) LoginToken(_ context.Context, actor fleet.Actor, name string) (fleet.APIToken, secret.Value, error) {
	if utf8.RuneCountInString(name) > maxLabelRunes || strings.ContainsFunc(name, unicode.IsControl) {
		return fleet.APIToken{}, secret.Value{}, job.Invalid("token_name", "is too long or has control characters").WithHint("at most %d characters", maxLabelRunes)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	person, _ := fleet.UserOf(actor.Name)
	user, err := s.user(person)
	if err != nil {
		return fleet.APIToken{}, secret.Value{}, err
	}
	tokens, err := s.store.APITokens()
	if err != nil {
		return fleet.APIToken{}, secret.Value{}, fmt.Errorf("read tokens: %w", err)
	}
	ends := s.expired(tokens)
	var own []store.Change
	for _, token := range tokens {
		if token.User == person && s.now().Before(token.ExpiresAt) {
			own = append(own, store.DeleteAPIToken(token.ID))
		}
	}
	ends = append(ends, own[:max(0, len(own)-maxLogins+1)]...)
	return s.addToken(actor, fleet.APIToken{Name: name, Role: user.Role, User: person, ExpiresAt: s.now().Add(loginLife)}, ends)
}

// expired removes the tokens that have been over for long, and those over that
// login made.
func (s *Service) expired(tokens []store.APIToken) (changes []store.Change) {
	for _, token := range tokens {
		end := token.ExpiresAt
		if token.User == "" {
			end = end.Add(keepExpired)
		}
		if !s.now().Before(end) {
			changes = append(changes, store.DeleteAPIToken(token.ID))
		}
	}
	return changes
}

// addToken stores a token, with other changes.
func (s *Service) addToken(by fleet.Actor, record fleet.APIToken, also []store.Change) (fleet.APIToken, secret.Value, error) {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	record.ID, record.CreatedAt, record.CreatedBy = hex.EncodeToString(id), s.now(), by.Name
	token, hash := newToken(tokenPrefix)
	detail := fmt.Sprintf("%s, %s, until %s", record.Name, record.Role, record.ExpiresAt.Format(time.RFC3339))
	changes := append(also, store.CreateAPIToken(store.APIToken{APIToken: record, Hash: hash}), s.audit(by, "token.add", "token/"+record.ID, detail))
	if err := s.apply(changes...); err != nil {
		return fleet.APIToken{}, secret.Value{}, fmt.Errorf("store token: %w", err)
	}
	return record, token, nil
}

// RemoveToken ends a token at once.
func (s *Service) RemoveToken(_ context.Context, by fleet.Actor, id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return failure(s.apply(store.DeleteAPIToken(id), s.audit(by, "token.remove", "token/"+id, "")), "token "+id)
}

// endToken ends a token that a login made. Others stay until they are removed
// by their id.
func (s *Service) endToken(from, token string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	record, found, err := s.store.APITokenByHash(hashOf(token))
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	if !found || record.User == "" {
		return job.Fail(job.InvalidRequest, "this is no token that login made").WithHint("borgfleet token remove ends any token")
	}
	by := fleet.Actor{Name: fleet.Person(record.User), From: from}
	return failure(s.apply(store.DeleteAPIToken(record.ID), s.audit(by, "logout", "token/"+record.ID, record.Name)), "token "+record.ID)
}
