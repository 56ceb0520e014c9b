package enrol_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestAHostGetsTheIdentityThatItMade(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	web1 := newHost(t, token)
	answer := h.enrol(web1, token)
	if answer.Host != "web1" || answer.Signer != h.signer || answer.CA != "PEM" || len(answer.URLs) != 2 || subjectOf(t, answer.JWT) != web1.PublicKey {
		t.Errorf("answer %+v", answer)
	}
	view, err := h.registry.Host(t.Context(), "web1")
	if err != nil || view.PublicKey != web1.PublicKey || view.SealKey != web1.SealKey || view.SSHKey != web1.SSHKey || view.EnrolledAt == nil {
		t.Errorf("host %+v, error %v", view, err)
	}
	conn, err := h.connect("web1", answer.JWT, web1.user)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	tokens, err := h.EnrolmentTokens(t.Context())
	if err != nil || len(tokens) != 1 || tokens[0].SpentAt == nil || tokens[0].CreatedBy != alice.Name {
		t.Errorf("tokens %+v, error %v", tokens, err)
	}
	page, err := h.store.Audit(fleet.AuditFilter{Object: "host/web1"})
	if err != nil || len(page.Entries) != 2 || page.Entries[0].Action != "host.enrol" || page.Entries[1].Action != "host.token.add" {
		t.Errorf("audit %+v, error %v", page, err)
	}
}

func TestTheSameHostIsAnsweredAgain(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	web1 := newHost(t, token)
	h.enrol(web1, token)
	if answer := h.enrol(web1, token); subjectOf(t, answer.JWT) != web1.PublicKey {
		t.Errorf("answer %+v", answer)
	}
	h.clock.turn(2 * time.Hour)
	wantFailure(t, h.ask(web1, token.Key).Failure, job.NotAuthenticated)
}

func TestATokenIsSpentByOneOfManyAtOnce(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	var group sync.WaitGroup
	replies := make([]bus.EnrolReply, 8)
	for i := range replies {
		who := newHost(t, token)
		group.Go(func() { replies[i] = h.ask(who, token.Key) })
	}
	group.Wait()
	good := 0
	for _, reply := range replies {
		if reply.Failure == nil {
			good++
		} else if failure := wantFailure(t, reply.Failure, job.NotAuthenticated); !strings.Contains(failure.Message, "used already") {
			t.Errorf("failure %v", failure)
		}
	}
	if good != 1 {
		t.Errorf("%d hosts were enrolled with one token", good)
	}
}

func TestBadRequestsAreRefusedAndSpendNothing(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	other := newHouse(t).token(fleet.NewEnrolmentToken{Host: "web1"})
	for name, test := range map[string]struct {
		change func(*host)
		key    string
		code   job.Code
		says   string
	}{
		"another coordinator's token": {func(*host) {}, other.Key, job.InvalidRequest, "not made with a token of this coordinator"},
		"unknown secret":              {func(r *host) { r.Secret = other.SecretText() }, token.Key, job.NotAuthenticated, "does not know this token"},
		"no secret":                   {func(r *host) { r.Secret = "" }, token.Key, job.NotAuthenticated, "does not know this token"},
		"cut secret":                  {func(r *host) { r.Secret = r.Secret[:9] }, token.Key, job.NotAuthenticated, "does not know this token"},
		"another host":                {func(r *host) { r.Host = "db1" }, token.Key, job.Conflict, "is for host web1"},
		"account's key":               {func(r *host) { r.PublicKey = h.signer }, token.Key, job.InvalidRequest, "public_key"},
		"no seal key":                 {func(r *host) { r.SealKey = "" }, token.Key, job.InvalidRequest, "seal_key"},
		"SSH key with options":        {func(r *host) { r.SSHKey = `command="sh" ` + r.SSHKey }, token.Key, job.InvalidRequest, "ssh_key"},
		"two SSH keys":                {func(r *host) { r.SSHKey += "\n" + r.SSHKey }, token.Key, job.InvalidRequest, "ssh_key"},
		"SSH key that is none":        {func(r *host) { r.SSHKey = "ssh-ed25519 AAAA" }, token.Key, job.InvalidRequest, "ssh_key"},
		"no SSH key":                  {func(r *host) { r.SSHKey = "" }, token.Key, job.InvalidRequest, "ssh_key"},
	} {
		t.Run(name, func(t *testing.T) {
			who := newHost(t, token)
			test.change(who)
			failure := wantFailure(t, h.ask(who, test.key).Failure, test.code)
			if !strings.Contains(failure.Message, test.says) || (test.code != job.Conflict && failure.Hint == "") {
				t.Errorf("failure %v", failure)
			}
		})
	}
	if _, err := h.registry.Host(t.Context(), "web1"); err == nil {
		t.Error("a host was made")
	}
	h.enrol(newHost(t, token), token) // it is still good
}

func TestAnExpiredTokenIsRefused(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1", Lifetime: time.Minute})
	h.clock.turn(61 * time.Second)
	failure := wantFailure(t, h.ask(newHost(t, token), token.Key).Failure, job.NotAuthenticated)
	if !strings.Contains(failure.Message, "expired at") {
		t.Errorf("failure %v", failure)
	}
}

func TestReplacingAHost(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	early := h.token(fleet.NewEnrolmentToken{Host: "web1"}) // made before the host was there
	first := newHost(t, token)
	answer := h.enrol(first, token)
	conn, err := h.connect("web1", answer.JWT, first.user)
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, h.ask(newHost(t, early), early.Key).Failure, job.NotAuthenticated) // it ended with the first enrolment
	_, _, err = h.EnrolmentToken(t.Context(), alice, fleet.NewEnrolmentToken{Host: "web1"})
	if failure := wantFailure(t, err, job.Conflict); !strings.Contains(failure.Hint, "--replace") {
		t.Errorf("failure %v", failure)
	}
	token = h.token(fleet.NewEnrolmentToken{Host: "web1", Replace: true})
	second := newHost(t, token)
	h.enrol(second, token)
	if view, err := h.registry.Host(t.Context(), "web1"); err != nil || view.PublicKey != second.PublicKey {
		t.Errorf("host %+v, error %v", view, err)
	}
	for deadline := time.Now().Add(patience); !conn.IsClosed(); {
		if time.Now().After(deadline) {
			t.Fatal("the replaced agent is still connected")
		}
		_ = conn.FlushTimeout(50 * time.Millisecond)
	}
	if _, err := h.connect("web1", answer.JWT, first.user); err == nil {
		t.Error("the replaced agent may connect again")
	}
}

func TestOnlyEnrollersAreAnswered(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	web1 := newHost(t, token)
	conn, err := h.connect("web1", h.enrol(web1, token).JWT, web1.user)
	if err != nil {
		t.Fatal(err)
	}
	orders, err := conn.SubscribeSync(bus.OrderSubject("web1"))
	if err != nil {
		t.Fatal(err)
	}
	inbox, err := conn.SubscribeSync(bus.InboxPrefix("web1") + ".x")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	stranger := h.stranger()
	for _, reply := range []string{bus.OrderSubject("web1"), bus.InboxPrefix("web1") + ".x"} {
		if err := stranger.PublishRequest(bus.Enrol, reply, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	// The same goes for a host that wants another one's answer.
	if err := conn.PublishRequest(bus.RenewSubject("web1"), bus.OrderSubject("web1"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Request(bus.Enrol, []byte("{}"), patience); err != nil { // what came before is done
		t.Fatal(err)
	}
	h.renew(conn, "web1", bus.RenewRequest{})
	for _, subscription := range []*nats.Subscription{orders, inbox} {
		if n, _, err := subscription.Pending(); err != nil || n != 0 {
			t.Errorf("%d answers on %s (%v)", n, subscription.Subject, err)
		}
	}
}

func TestAFloodIsAnsweredWithTooMany(t *testing.T) {
	h := newHouse(t)
	stranger := h.stranger()
	for range 10_000 {
		msg, err := stranger.Request(bus.Enrol, []byte("{}"), patience)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(msg.Data, []byte(job.TooMany)) {
			return
		}
	}
	t.Error("10,000 requests were looked into")
}

func TestChangingKeys(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	old := newHost(t, token)
	oldConn, err := h.connect("web1", h.enrol(old, token).JWT, old.user)
	if err != nil {
		t.Fatal(err)
	}
	fresh := newHost(t, token)
	request := bus.RenewRequest{PublicKey: fresh.PublicKey, SealKey: fresh.SealKey, SSHKey: fresh.SSHKey}
	wantFailure(t, h.renew(oldConn, "web1", bus.RenewRequest{PublicKey: fresh.PublicKey, Confirm: true}).Failure, job.Conflict)
	staged := h.renew(oldConn, "web1", request)
	if staged.Failure != nil {
		t.Fatal(staged.Failure)
	}
	newConn, err := h.connect("web1", staged.JWT, fresh.user)
	if err != nil {
		t.Fatal(err)
	}
	if err := oldConn.FlushTimeout(patience); err != nil {
		t.Errorf("the old identity ended before the new one was confirmed: %v", err)
	}
	request.Confirm = true
	for range 2 { // the first answer may be lost
		if reply := h.renew(newConn, "web1", request); reply.Failure != nil || reply.JWT != "" {
			t.Fatalf("reply %+v", reply)
		}
	}
	for deadline := time.Now().Add(patience); !oldConn.IsClosed(); {
		if time.Now().After(deadline) {
			t.Fatal("the old identity still works")
		}
		_ = oldConn.FlushTimeout(50 * time.Millisecond)
	}
	if view, err := h.registry.Host(t.Context(), "web1"); err != nil || view.PublicKey != fresh.PublicKey || view.SealKey != fresh.SealKey {
		t.Errorf("host %+v, error %v", view, err)
	}
	if reply := h.renew(newConn, "web1", bus.RenewRequest{PublicKey: fresh.PublicKey}); reply.Failure != nil || subjectOf(t, reply.JWT) != fresh.PublicKey {
		t.Errorf("the same for longer: %+v", reply)
	}
	if reply := h.renew(newConn, "web1", bus.RenewRequest{PublicKey: old.PublicKey}); reply.Failure == nil {
		t.Error("a key that has ended is taken again")
	}
}

func TestAHostThatAsksTooOftenIsToldSo(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	web1 := newHost(t, token)
	conn, err := h.connect("web1", h.enrol(web1, token).JWT, web1.user)
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		if reply := h.renew(conn, "web1", bus.RenewRequest{}); reply.Failure.Code == job.TooMany {
			return
		}
	}
	t.Error("10,000 requests were looked into")
}

func TestTokens(t *testing.T) {
	h := newHouse(t)
	for name, asked := range map[string]fleet.NewEnrolmentToken{
		"no host": {}, "bad host": {Host: "Web 1"}, "too short": {Host: "web1", Lifetime: time.Second}, "too long": {Host: "web1", Lifetime: 8 * 24 * time.Hour},
		"negative": {Host: "web1", Lifetime: -time.Hour}, "the coordinator itself": {Host: fleet.LocalHost},
	} {
		_, _, err := h.EnrolmentToken(t.Context(), alice, asked)
		if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.InvalidRequest {
			t.Errorf("%s: error %v", name, err)
		}
	}
	record, command, err := h.EnrolmentToken(t.Context(), alice, fleet.NewEnrolmentToken{Host: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(command.Command, string(command.Token.Reveal())) || record.ExpiresAt.Sub(record.CreatedAt) != time.Hour {
		t.Errorf("record %+v, command %+v", record, command)
	}
	stored, err := h.store.EnrolmentTokens()
	if err != nil {
		t.Fatal(err)
	}
	token, err := bus.ParseEnrolmentToken(string(command.Token.Reveal()))
	if err != nil || len(stored) != 1 || strings.Contains(stored[0].Hash, token.SecretText()) || len(stored[0].Hash) != 64 {
		t.Errorf("stored %+v, error %v", stored, err)
	}
	if err := h.RemoveEnrolmentToken(t.Context(), alice, record.ID); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, h.RemoveEnrolmentToken(t.Context(), alice, record.ID), job.NotFound)
	wantFailure(t, h.ask(newHost(t, token), token.Key).Failure, job.NotAuthenticated)

	h.token(fleet.NewEnrolmentToken{Host: "web2"})
	h.clock.turn(26 * time.Hour)
	h.token(fleet.NewEnrolmentToken{Host: "web3"})
	if left, err := h.EnrolmentTokens(t.Context()); err != nil || len(left) != 1 || left[0].Host != "web3" {
		t.Errorf("left %+v, error %v", left, err)
	}
}

func TestTokensOutliveARestart(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	h.Service = h.service()
	if again := h.token(fleet.NewEnrolmentToken{Host: "web2"}); again.Key != token.Key {
		t.Error("another key is in tokens after a restart")
	}
	seed, _, err := h.store.Secret("enrolment")
	if err != nil || regexp.MustCompile(`SX[A-Z2-7]{50}`).Match(seed) { // two letters may stand in what is encrypted, too
		t.Errorf("the key is stored in clear (%v)", err)
	}
}
