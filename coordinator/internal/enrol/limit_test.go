package enrol_test

import (
	"bytes"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestAFloodOfStrangersKeepsNoHostOut: anybody can connect without credentials,
// but only who has had a token can seal a request.
func TestAFloodOfStrangersKeepsNoHostOut(t *testing.T) {
	h := newHouse(t)
	stranger := h.stranger()
	for limited := false; !limited; {
		msg, err := stranger.Request(bus.Enrol, []byte("{}"), patience)
		if err != nil {
			t.Fatal(err)
		}
		limited = bytes.Contains(msg.Data, []byte(job.TooMany))
	}
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	h.enrol(newHost(t, token), token)
}

// TestAHostThatChangesKeysTooOftenIsToldSo: each key that is given up stays
// among the revoked ones for ever.
func TestAHostThatChangesKeysTooOftenIsToldSo(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	own := newHost(t, token)
	conn, err := h.connect("web1", h.enrol(own, token).JWT, own.user)
	if err != nil {
		t.Fatal(err)
	}
	var last *host
	for limited := false; !limited; {
		fresh := newHost(t, token)
		reply := h.renew(conn, "web1", bus.RenewRequest{PublicKey: fresh.PublicKey})
		limited = reply.Failure != nil && reply.Failure.Code == job.TooMany
		if !limited {
			last = fresh
		}
	}
	for what, key := range map[string]string{"the present key": own.PublicKey, "the staged key": last.PublicKey} {
		if reply := h.renew(conn, "web1", bus.RenewRequest{PublicKey: key}); reply.Failure != nil {
			t.Errorf("%s is not renewed: %v", what, reply.Failure)
		}
	}
}

// TestARevokedKeyTakesNoOthersPlace: it must not end the rotation that goes on.
func TestARevokedKeyTakesNoOthersPlace(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	own := newHost(t, token)
	conn, err := h.connect("web1", h.enrol(own, token).JWT, own.user)
	if err != nil {
		t.Fatal(err)
	}
	first, second := newHost(t, token), newHost(t, token)
	for _, fresh := range []*host{first, second} {
		if reply := h.renew(conn, "web1", bus.RenewRequest{PublicKey: fresh.PublicKey}); reply.Failure != nil {
			t.Fatal(reply.Failure)
		}
	}
	wantFailure(t, h.renew(conn, "web1", bus.RenewRequest{PublicKey: first.PublicKey}).Failure, job.Conflict)
	if host, err := h.registry.Host(t.Context(), "web1"); err != nil || host.Staged == nil || host.Staged.PublicKey != second.PublicKey {
		t.Errorf("staged: %+v, error %v; want %s", host.Staged, err, second.PublicKey)
	}
}

// TestStrangersLearnNothingOfHostsThatAreRefused: who comes without credentials
// can hear what all who do so are answered.
func TestStrangersLearnNothingOfHostsThatAreRefused(t *testing.T) {
	h := newHouse(t)
	token := h.token(fleet.NewEnrolmentToken{Host: "web1"})
	stranger := h.stranger()
	heard, err := stranger.SubscribeSync("_ENROLL.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	misnamed := newHost(t, token)
	misnamed.Host = "db1"
	wantFailure(t, h.ask(misnamed, token.Key).Failure, job.Conflict)
	answer, err := heard.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"web1", "db1", "token"} {
		if bytes.Contains(answer.Data, []byte(word)) {
			t.Errorf("a stranger hears %s", answer.Data)
		}
	}
}
