package enrol

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// serveEnrolment answers one who comes without credentials. An answer goes only
// to where nobody but such can receive.
func (s *Service) serveEnrolment(ctx context.Context, msg *nats.Msg) {
	if !bus.FromEnroller(msg.Reply) {
		s.logger.Warn("ignored a request for enrolment that wants its answer elsewhere")
		return
	}
	s.respond(msg, s.answer(ctx, msg.Data))
}

func tooManyHosts() *job.Failure {
	return job.Fail(job.TooMany, "too many hosts ask to be enrolled at this moment").WithHint("try again in a minute")
}

func (s *Service) respond(msg *nats.Msg, reply any) {
	data, err := json.Marshal(reply)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		s.logger.Warn("answer a host", "err", err) // it asks again
	}
}

// answer opens a request and seals what is answered, also why it is refused.
// Only who sends no key for that learns it in clear. Opening costs little, and is not limited: it tells
// those who have had a token from strangers, who must not use up their limit.
func (s *Service) answer(ctx context.Context, data []byte) bus.EnrolReply {
	var message bus.EnrolMessage
	var request bus.EnrolRequest
	err := json.Unmarshal(data, &message)
	if err == nil {
		err = bus.OpenMessage(message.Sealed, s.key, &request)
	}
	switch {
	case err != nil && !s.strangers.Allow(), err == nil && !s.limit.Allow():
		return bus.EnrolReply{Failure: tooManyHosts()}
	case err != nil:
		s.logger.Warn("refused an enrolment that cannot be read")
		return bus.EnrolReply{Failure: job.Fail(job.InvalidRequest, "the request was not made with a token of this coordinator").
			WithHint("use a token that this coordinator's \"borgfleet host token\" printed, and an agent of about its version")}
	}
	answer, err := s.enrol(ctx, request)
	if err != nil {
		answer = bus.EnrolAnswer{Failure: s.refusal("enrolment", err)}
	}
	sealed, err := bus.SealMessage(answer, request.SealKey)
	if err != nil {
		return bus.EnrolReply{Failure: malformed("seal_key", "a public curve key")}
	}
	return bus.EnrolReply{Sealed: &sealed}
}

// refusal logs why a host gets nothing. What is our own fault is not told to
// strangers.
func (s *Service) refusal(what string, err error) *job.Failure {
	failure, known := errors.AsType[*job.Failure](err)
	if !known || failure.Code == job.Internal {
		s.logger.Error(what+" went wrong", "err", err)
		return job.Fail(job.Unavailable, "the coordinator cannot do this now").WithHint("see its log, and try again")
	}
	s.logger.Warn("refused "+what, "err", failure.Message)
	return failure
}

// enrol gives a host its identity.
func (s *Service) enrol(ctx context.Context, request bus.EnrolRequest) (bus.EnrolAnswer, error) {
	if err := checkKeys(request); err != nil {
		return bus.EnrolAnswer{}, err
	}
	hash, ok := request.SecretHash()
	if !ok {
		return bus.EnrolAnswer{}, unknownToken()
	}
	token, known, err := s.store.EnrolmentTokenByHash(hash)
	if err != nil {
		return bus.EnrolAnswer{}, err
	}
	if !known {
		return bus.EnrolAnswer{}, unknownToken()
	}
	if err := s.checkToken(token, request); err != nil {
		return bus.EnrolAnswer{}, err
	}
	jwt, err := s.options.Minter.AuthorizeAgent(token.Host, request.PublicKey)
	if err != nil {
		return bus.EnrolAnswer{}, err
	}
	if err := s.spend(ctx, token, request); err != nil {
		return bus.EnrolAnswer{}, err
	}
	return bus.EnrolAnswer{
		Host: token.Host, JWT: jwt, Signer: s.options.Signer, URLs: s.options.URLs, CA: string(s.options.CA), At: s.now().UTC(),
	}, nil
}

// spend stores that the token is spent and whose host it made, or finds that
// this very host has done so before.
func (s *Service) spend(ctx context.Context, token store.EnrolmentToken, request bus.EnrolRequest) error {
	if token.SpentBy != "" {
		host, err := s.options.Registry.Host(ctx, token.Host)
		if err == nil && host.PublicKey != request.PublicKey { // changed or replaced since
			err = spentToken()
		}
		return err
	}
	by := fleet.Actor{Name: "host:" + token.Host, From: "bus, token " + token.ID + " of " + token.CreatedBy}
	err := s.options.Registry.EnrolHost(ctx, by, fleet.Enrolment{
		Host: token.Host, PublicKey: request.PublicKey, SealKey: request.SealKey, SSHKey: request.SSHKey, Replace: token.Replace,
	}, store.SpendEnrolmentToken(token.Hash, request.PublicKey, s.now().UTC()))
	switch {
	case errors.Is(err, store.ErrChanged):
		return spentToken()
	case errors.Is(err, store.ErrMissing):
		return unknownToken()
	case err == nil:
		s.logger.Info("host enrolled", "host", token.Host, "token", token.ID, "agent", printable(request.AgentVersion), "os", printable(request.OS))
	}
	return err
}

// printable bounds what a stranger says of itself.
func printable(text string) string { return strings.ToValidUTF8(text[:min(len(text), 80)], "") }

func (s *Service) checkToken(token store.EnrolmentToken, request bus.EnrolRequest) error {
	if s.now().After(token.ExpiresAt) {
		return job.Fail(job.NotAuthenticated, "the token expired at %s", token.ExpiresAt.UTC().Format("2006-01-02 15:04 MST")).
			WithHint("make another one: borgfleet host token %s", token.Host)
	}
	if token.SpentBy != "" && token.SpentBy != request.PublicKey {
		return spentToken()
	}
	if request.Host != "" && request.Host != token.Host { // no hint: the agent knows which file says so
		return job.Fail(job.Conflict, "the token is for host %s, and this host is configured as another one", token.Host)
	}
	return nil
}

func unknownToken() *job.Failure {
	return job.Fail(job.NotAuthenticated, "the coordinator does not know this token: it is old, or was removed").
		WithHint("make another one: borgfleet host token HOST")
}

func spentToken() *job.Failure {
	return job.Fail(job.NotAuthenticated, "the token was used already, and works once").
		WithHint("make another one: borgfleet host token HOST, with --replace if the host is enrolled; if nobody of yours used it, remove that host")
}

// checkKeys checks what a stranger's keys look like, without repeating them.
func checkKeys(request bus.EnrolRequest) error {
	switch {
	case !nkeys.IsValidPublicUserKey(request.PublicKey):
		return malformed("public_key", "a public key of a bus identity")
	case !nkeys.IsValidPublicCurveKey(request.SealKey):
		return malformed("seal_key", "a public curve key")
	case !validSSHKey(request.SSHKey):
		return malformed("ssh_key", "an ed25519 public key in authorized_keys form")
	}
	return nil
}

func malformed(field, want string) *job.Failure {
	return job.Invalid(field, "is not %s", want).WithHint("use an agent of about the coordinator's version")
}

const sshKeyType = "ssh-ed25519"

// validSSHKey reports whether the text is one ed25519 key without options or
// comment: it goes into a file of authorized keys. Its form is RFC 8709's:
// length and name of the type, then length (32) and bytes of the key.
func validSSHKey(text string) bool {
	encoded, ok := strings.CutPrefix(text, sshKeyType+" ")
	if !ok {
		return false
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(encoded)
	head := "\x00\x00\x00\x0b" + sshKeyType + "\x00\x00\x00\x20"
	return err == nil && !strings.ContainsAny(text, "\r\n") && len(blob) == len(head)+32 && strings.HasPrefix(string(blob), head)
}
