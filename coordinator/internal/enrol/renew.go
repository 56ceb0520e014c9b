package enrol

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// serveRenewal answers a host that asks for other credentials. The subject says
// which: only that host may publish there, and only there it is answered.
func (s *Service) serveRenewal(ctx context.Context, msg *nats.Msg) {
	host, err := bus.HostOf(msg.Subject)
	if err != nil || !bus.OwnInbox(host, msg.Reply) {
		s.logger.Warn("ignored a request for credentials that wants its answer elsewhere", "subject", msg.Subject)
		return
	}
	if !s.limitsOf(host).requests.Allow() {
		s.respond(msg, bus.RenewReply{Failure: job.Fail(job.TooMany, "host %s asks too often", host).WithHint("try again in a minute")})
		return
	}
	var request bus.RenewRequest
	if err := json.Unmarshal(msg.Data, &request); err != nil {
		s.respond(msg, bus.RenewReply{Failure: job.Invalid("request", "is not JSON")})
		return
	}
	token, err := s.renew(ctx, host, request)
	if err != nil {
		s.respond(msg, bus.RenewReply{Failure: s.refusal("credentials for host "+host, err)})
		return
	}
	s.respond(msg, bus.RenewReply{JWT: token})
}

// hostLimits are those of one host.
type hostLimits struct {
	requests *rate.Limiter
	keys     *rate.Limiter // changes to keys that it has not had before
}

// limitsOf limits each host by itself. Hosts without an identity do not come
// here, so the limits are no more than there have been hosts.
func (s *Service) limitsOf(host string) *hostLimits {
	s.mu.Lock()
	defer s.mu.Unlock()
	limits, ok := s.hosts[host]
	if !ok {
		limits = &hostLimits{
			requests: rate.NewLimiter(rate.Every(renewalEvery), renewalBurst), keys: rate.NewLimiter(rate.Every(keyEvery), keyBurst),
		}
		s.hosts[host] = limits
	}
	return limits
}

// renew returns a JWT for the present identity, or for one that is to follow
// it; none when that one is confirmed.
func (s *Service) renew(ctx context.Context, host string, request bus.RenewRequest) (string, error) {
	switch {
	case !nkeys.IsValidPublicUserKey(request.PublicKey):
		return "", malformed("public_key", "a public key of a bus identity")
	case request.SealKey != "" && !nkeys.IsValidPublicCurveKey(request.SealKey):
		return "", malformed("seal_key", "a public curve key")
	case request.SSHKey != "" && !validSSHKey(request.SSHKey):
		return "", malformed("ssh_key", "an ed25519 public key in authorized_keys form")
	}
	if request.Confirm {
		return "", s.options.Registry.ConfirmKey(ctx, host, request)
	}
	if err := s.mayChange(ctx, host, request); err != nil {
		return "", err
	}
	token, err := s.options.Minter.AuthorizeAgent(host, request.PublicKey) // first: a revoked key must not take another's place
	if err != nil {
		return "", err
	}
	return token, s.options.Registry.StageKey(ctx, host, request) // the present one again changes nothing
}

// mayChange limits how often a host comes with keys that it has not had.
func (s *Service) mayChange(ctx context.Context, name string, request bus.RenewRequest) error {
	host, err := s.options.Registry.Host(ctx, name)
	keys := fleet.HostKeys{PublicKey: request.PublicKey, SealKey: request.SealKey, SSHKey: request.SSHKey}
	known := host.PublicKey == keys.PublicKey || host.Staged != nil && *host.Staged == keys
	if err == nil && !known && !s.limitsOf(name).keys.Allow() {
		err = job.Fail(job.TooMany, "host %s changes its keys too often", name).
			WithHint("try again in an hour, or enrol it again with a token that replaces it")
	}
	return err
}
