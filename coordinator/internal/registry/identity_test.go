package registry_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/nats-io/nkeys"
)

var alice, bob = fleet.Actor{Name: "operator:alice"}, fleet.Actor{Name: "operator:bob"}

// keys are those that one agent has made.
type keys fleet.HostKeys

func newKeys(t testing.TB) keys {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return keys{PublicKey: public, SealKey: sealKey(t), SSHKey: "ssh-ed25519 " + public}
}

func (k keys) enrolment(host string) fleet.Enrolment {
	return fleet.Enrolment{Host: host, PublicKey: k.PublicKey, SealKey: k.SealKey, SSHKey: k.SSHKey}
}

func (k keys) renewal() bus.RenewRequest {
	return bus.RenewRequest{PublicKey: k.PublicKey, SealKey: k.SealKey, SSHKey: k.SSHKey}
}

// mustHost declares a host.
func (h *house) mustHost(t testing.TB, name string) {
	t.Helper()
	if _, err := h.AddHost(t.Context(), alice, name, nil); err != nil {
		t.Fatal(err)
	}
}

// mustEnrol enrols a host, and returns its keys.
func (h *house) mustEnrol(t testing.TB, name string) keys {
	t.Helper()
	k := newKeys(t)
	if err := h.EnrolHost(t.Context(), alice, k.enrolment(name)); err != nil {
		t.Fatal(err)
	}
	return k
}

// pending returns the identities that the bus has yet to revoke.
func (h *house) pending(t testing.TB) (publicKeys []string) {
	t.Helper()
	revocations, err := h.store.Revocations()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range revocations {
		publicKeys = append(publicKeys, r.PublicKey)
	}
	return publicKeys
}

// wantOwner checks whom a bus identity speaks for, now and after a restart.
func (h *house) wantOwner(t testing.TB, publicKey, want string) {
	t.Helper()
	for range 2 {
		got, known := h.HostByKey(publicKey)
		if got != want || known != (want != "") {
			t.Errorf("%s speaks for %q (%v), want %q", publicKey, got, known, want)
		}
		h.restart(t)
	}
}

func TestEnrolHost(t *testing.T) {
	for name, declared := range map[string]bool{"unknown": false, "declared": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			if declared {
				if _, err := h.AddHost(t.Context(), alice, "web1", map[string]string{"rack": "7"}); err != nil {
					t.Fatal(err)
				}
			}
			k := newKeys(t)
			if err := h.EnrolHost(t.Context(), bob, k.enrolment("web1"), store.PutSecret("also", []byte("x"))); err != nil {
				t.Fatal(err)
			}
			view, err := h.Host(t.Context(), "web1")
			if err != nil {
				t.Fatal(err)
			}
			want := fleet.Host{
				Name: "web1", Mode: fleet.ModeAgent, Labels: map[string]string{}, CreatedAt: start, EnrolledAt: &start,
				PublicKey: k.PublicKey, SealKey: k.SealKey, SSHKey: k.SSHKey,
			}
			if declared {
				want.Labels["rack"] = "7"
			}
			same(t, "host", want, view.Host)
			same(t, "stored host", want, h.stored(t, "web1"))
			h.wantOwner(t, k.PublicKey, "web1")
			same(t, "newest audit entry", "operator:bob host.enrol host/web1", h.audit(t)[0])
			if _, found, err := h.store.Secret("also"); !found || err != nil {
				t.Errorf("what belongs to the enrolment was not stored: %v", err)
			}
			if err := h.EnrolHost(t.Context(), bob, k.enrolment("web1")); err != nil {
				t.Errorf("the same identity again: %v", err)
			}
			same(t, "revoked", []string(nil), h.revoker.revoked)
		})
	}
}

func TestEnrolHostRefuses(t *testing.T) {
	tests := map[string]struct {
		spoil func(*fleet.Enrolment)
		code  job.Code
		says  string
	}{
		"has an identity": {func(*fleet.Enrolment) {}, job.Conflict, "web1 has an identity already"},
		"bad name":        {func(e *fleet.Enrolment) { e.Host = "a.b" }, job.InvalidRequest, "host"},
		"no bus identity": {func(e *fleet.Enrolment) { e.PublicKey = e.SealKey }, job.InvalidRequest, "public_key"},
		"no seal key":     {func(e *fleet.Enrolment) { e.SealKey = "" }, job.InvalidRequest, "seal_key"},
		"bad seal key":    {func(e *fleet.Enrolment) { e.SealKey = e.PublicKey }, job.InvalidRequest, "seal_key"},
		"ssh key of two":  {func(e *fleet.Enrolment) { e.SSHKey = "a\nb" }, job.InvalidRequest, "ssh_key"},
		"long ssh key":    {func(e *fleet.Enrolment) { e.SSHKey = strings.Repeat("a", 5000) }, job.InvalidRequest, "ssh_key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			k := h.mustEnrol(t, "web1")
			asked := newKeys(t).enrolment("web1")
			test.spoil(&asked)
			wantFailure(t, h.EnrolHost(t.Context(), bob, asked), test.code, test.says)
			h.wantOwner(t, k.PublicKey, "web1")
			same(t, "audit", []string{"operator:alice host.enrol host/web1"}, h.audit(t))
		})
	}
}

func TestAnIdentityIsOfOneHost(t *testing.T) {
	h := newHouse(t)
	k := h.mustEnrol(t, "web1")
	h.mustEnrol(t, "db")
	wantFailure(t, h.EnrolHost(t.Context(), bob, k.enrolment("web2")), job.Conflict, "belongs to host web1")
	wantFailure(t, h.StageKey(t.Context(), "db", k.renewal()), job.Conflict, "belongs to host web1")
}

func TestEnrolmentIsStoredWithItsToken(t *testing.T) {
	h := newHouse(t)
	k := newKeys(t)
	err := h.EnrolHost(t.Context(), bob, k.enrolment("web1"), store.SpendEnrolmentToken("nobody's", k.PublicKey, start))
	if !errors.Is(err, store.ErrMissing) {
		t.Errorf("error %v does not tell what failed", err)
	}
	_, err = h.Host(t.Context(), "web1")
	wantFailure(t, err, job.UnknownHost, "web1")
	h.wantOwner(t, k.PublicKey, "")
}

func TestEnrolHostAnew(t *testing.T) {
	h := newHouse(t)
	before := h.mustEnrol(t, "web1")
	staged := newKeys(t)
	if err := h.StageKey(t.Context(), "web1", staged.renewal()); err != nil {
		t.Fatal(err)
	}
	h.presence.come("web1", start)
	f := facts(start)
	if err := h.UpdateFacts(t.Context(), "web1", f, before.SealKey); err != nil {
		t.Fatal(err)
	}
	after := newKeys(t)
	anew := after.enrolment("web1")
	anew.Replace = true
	if err := h.EnrolHost(t.Context(), bob, anew); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked", []string{before.PublicKey, staged.PublicKey}, h.revoker.revoked)
	same(t, "left to be revoked", []string(nil), h.pending(t))
	if online, _ := h.presence.Online("web1"); online {
		t.Error("the host is online before its new agent was heard of")
	}
	same(t, "removed hosts", []string(nil), h.removed)
	h.wantOwner(t, before.PublicKey, "")
	h.wantOwner(t, staged.PublicKey, "")
	h.wantOwner(t, after.PublicKey, "web1")
	host := h.stored(t, "web1")
	same(t, "seal key", after.SealKey, host.SealKey)
	same(t, "facts", &f, host.Facts)
}

func TestRotation(t *testing.T) {
	h := newHouse(t)
	before := h.mustEnrol(t, "web1")
	forgotten, after := newKeys(t), newKeys(t)
	wantFailure(t, h.ConfirmKey(t.Context(), "web1", after.renewal()), job.Conflict, "has not asked")
	for _, k := range []keys{forgotten, after, after, before} { // the last asks for its JWT once more
		if err := h.StageKey(t.Context(), "web1", k.renewal()); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "revoked while it is staged", []string{forgotten.PublicKey}, h.revoker.revoked)
	h.wantOwner(t, forgotten.PublicKey, "")
	h.wantOwner(t, before.PublicKey, "web1")
	h.wantOwner(t, after.PublicKey, "web1")
	same(t, "seal key until it is confirmed", before.SealKey, h.stored(t, "web1").SealKey)

	for range 2 {
		if err := h.ConfirmKey(t.Context(), "web1", bus.RenewRequest{PublicKey: after.PublicKey, Confirm: true}); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "revoked", []string{forgotten.PublicKey, before.PublicKey}, h.revoker.revoked)
	h.wantOwner(t, before.PublicKey, "")
	h.wantOwner(t, after.PublicKey, "web1")
	want := fleet.HostKeys(after)
	host := h.stored(t, "web1")
	same(t, "keys", want, fleet.HostKeys{PublicKey: host.PublicKey, SealKey: host.SealKey, SSHKey: host.SSHKey})
	same(t, "staged", (*fleet.HostKeys)(nil), host.Staged)
	same(t, "newest audit entry", "host:web1 host.key.change host/web1", h.audit(t)[0])
}

func TestStagingTheSameKeysAgainLeavesNoTrace(t *testing.T) {
	h, k := newHouse(t), newKeys(t)
	h.mustEnrol(t, "web1")
	for range 3 {
		if err := h.StageKey(t.Context(), "web1", k.renewal()); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "audit", []string{"host:web1 host.key.stage host/web1", "operator:alice host.enrol host/web1"}, h.audit(t))
}

func TestRotationKeepsWhatIsNotGiven(t *testing.T) {
	h := newHouse(t)
	before, after := h.mustEnrol(t, "web1"), newKeys(t)
	request := bus.RenewRequest{PublicKey: after.PublicKey}
	if err := errors.Join(h.StageKey(t.Context(), "web1", request), h.ConfirmKey(t.Context(), "web1", request)); err != nil {
		t.Fatal(err)
	}
	host := h.stored(t, "web1")
	same(t, "seal key", before.SealKey, host.SealKey)
	same(t, "ssh key", before.SSHKey, host.SSHKey)
}

func TestRotationNeedsAnIdentity(t *testing.T) {
	h := newHouse(t)
	k := newKeys(t)
	wantFailure(t, h.StageKey(t.Context(), "web1", k.renewal()), job.UnknownHost, "web1")
	wantFailure(t, h.ConfirmKey(t.Context(), "web1", k.renewal()), job.UnknownHost, "web1")
	h.mustHost(t, "web1")
	wantFailure(t, h.StageKey(t.Context(), "web1", k.renewal()), job.Conflict, "not enrolled")
	wantFailure(t, h.ConfirmKey(t.Context(), "web1", k.renewal()), job.Conflict, "not enrolled")
	k.PublicKey = "U1"
	wantFailure(t, h.StageKey(t.Context(), "web1", k.renewal()), job.InvalidRequest, "public_key")
}

func TestRotationOutlivesABusThatIsAway(t *testing.T) {
	h := newHouse(t)
	before, after := h.mustEnrol(t, "web1"), newKeys(t)
	h.revoker.err = job.Fail(job.Unavailable, "the bus is away")
	h.now = start.Add(time.Hour)
	if err := errors.Join(h.StageKey(t.Context(), "web1", after.renewal()), h.ConfirmKey(t.Context(), "web1", after.renewal())); err != nil {
		t.Fatal(err)
	}
	same(t, "left to be revoked", []string{before.PublicKey}, h.pending(t))
	h.wantOwner(t, before.PublicKey, "")
}
