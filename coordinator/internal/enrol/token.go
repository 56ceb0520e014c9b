package enrol

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Lifetimes of a token.
const (
	DefaultLifetime = time.Hour
	MinLifetime     = time.Minute
	MaxLifetime     = 7 * 24 * time.Hour
)

// keptAfter is how long tokens that are over are still shown.
const keptAfter = 24 * time.Hour

// EnrolmentToken makes a one-time token for a host, which need not be known
// yet. A host that has an identity needs Replace, and is refused here rather
// than when somebody has carried the token there.
func (s *Service) EnrolmentToken(
	ctx context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken,
) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	lifetime, err := s.check(ctx, asked)
	if err != nil {
		return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, err
	}
	plain := make([]byte, bus.TokenSecretSize)
	_, _ = rand.Read(plain) // which never fails
	carried := bus.EnrolmentToken{
		URL: s.options.URLs[0], Fingerprint: s.options.Fingerprint, Key: s.public, Secret: secret.New(plain),
	}
	word, err := carried.Encode()
	if err != nil {
		return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, fmt.Errorf("encode enrolment token: %w", err)
	}
	now := s.now().UTC()
	token := fleet.EnrolmentToken{
		ID: strings.ToLower(rand.Text()[:12]), Host: asked.Host, Replace: asked.Replace,
		CreatedAt: now, CreatedBy: by.Name, ExpiresAt: now.Add(lifetime),
	}
	_, err = s.store.Apply(
		store.CreateEnrolmentToken(store.EnrolmentToken{EnrolmentToken: token, Hash: carried.SecretHash()}),
		s.audit(by, "host.token.add", token))
	if err != nil {
		return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, fmt.Errorf("store enrolment token: %w", err)
	}
	s.logger.Info("enrolment token made", "host", token.Host, "token", token.ID, "by", by.Name)
	s.prune()
	return token, fleet.EnrolmentCommand{
		Token: secret.FromString(word), URL: s.options.URLs[0], Command: "borgfleet-agent enroll --token " + word,
	}, nil
}

// check returns the token's lifetime.
func (s *Service) check(ctx context.Context, asked fleet.NewEnrolmentToken) (time.Duration, error) {
	if err := job.CheckHostName("host", asked.Host); err != nil {
		return 0, err
	}
	if asked.Host == fleet.LocalHost {
		return 0, job.Invalid("host", "%q is the coordinator's own machine, and needs no agent", asked.Host).WithHint("choose another name")
	}
	lifetime := asked.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if lifetime < MinLifetime || lifetime > MaxLifetime {
		return 0, job.Invalid("expires", "%s is not between %s and %s", lifetime, MinLifetime, MaxLifetime).
			WithHint("a token needs to live only until somebody has used it on the host")
	}
	host, err := s.options.Registry.Host(ctx, asked.Host)
	if failure, ok := errors.AsType[*job.Failure](err); ok && failure.Code == job.UnknownHost {
		return lifetime, nil
	}
	if err == nil && host.Mode == fleet.ModeSSH && !asked.Replace {
		return 0, job.Fail(job.Conflict, "host %s is reached over SSH, and has no agent", asked.Host).
			WithHint("borgfleet host convert %s gives it one; or choose another name", asked.Host)
	}
	if err == nil && host.PublicKey != "" && !asked.Replace {
		return 0, taken(asked.Host)
	}
	return lifetime, err
}

func taken(host string) *job.Failure {
	return job.Fail(job.Conflict, "host %s is enrolled already", host).
		WithHint("choose another name; or, if that host was set up anew, make a token that replaces its identity: borgfleet host token %s --replace", host)
}

// EnrolmentTokens returns every token that is good or was until lately, the
// oldest first.
func (s *Service) EnrolmentTokens(context.Context) ([]fleet.EnrolmentToken, error) {
	stored, err := s.store.EnrolmentTokens()
	if err != nil {
		return nil, fmt.Errorf("read enrolment tokens: %w", err)
	}
	tokens := make([]fleet.EnrolmentToken, len(stored))
	for i, token := range stored {
		tokens[i] = token.EnrolmentToken
	}
	return tokens, nil
}

// RemoveEnrolmentToken ends a token. A host that was enrolled with it stays.
func (s *Service) RemoveEnrolmentToken(ctx context.Context, by fleet.Actor, id string) error {
	tokens, err := s.EnrolmentTokens(ctx)
	if err != nil {
		return err
	}
	for _, token := range tokens {
		if token.ID != id {
			continue
		}
		if _, err := s.store.Apply(store.DeleteEnrolmentToken(id), s.audit(by, "host.token.remove", token)); err == nil {
			s.logger.Info("enrolment token removed", "host", token.Host, "token", id, "by", by.Name)
			return nil
		} else if !errors.Is(err, store.ErrMissing) {
			return fmt.Errorf("remove enrolment token %s: %w", id, err)
		}
	}
	return job.Fail(job.NotFound, "there is no enrolment token %q", id).WithHint("tokens that are over are dropped after %s", keptAfter)
}

func (s *Service) audit(by fleet.Actor, action string, token fleet.EnrolmentToken) store.Change {
	detail := "token " + token.ID
	if token.Replace {
		detail += ", may replace the host's identity"
	}
	return store.AppendAudit(fleet.AuditEntry{
		At: s.now().UTC(), By: by.Name, From: by.From, Action: action, Object: "host/" + token.Host, Outcome: "done", Detail: detail,
	})
}

// prune drops tokens that have been over for a while.
func (s *Service) prune() {
	tokens, err := s.store.EnrolmentTokens()
	if err != nil {
		s.logger.Error("read enrolment tokens", "err", err)
		return
	}
	for _, token := range tokens {
		if s.now().Before(token.ExpiresAt.Add(keptAfter)) {
			continue
		}
		if _, err := s.store.Apply(store.DeleteEnrolmentToken(token.ID)); err != nil && !errors.Is(err, store.ErrMissing) {
			s.logger.Error("drop an old enrolment token", "token", token.ID, "err", err)
		}
	}
}
