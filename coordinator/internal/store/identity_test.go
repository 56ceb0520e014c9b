package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/google/go-cmp/cmp"
)

// refuse wants Apply to refuse, and the error not to show a hash.
func refuse(t *testing.T, s *store.Store, change store.Change, want error) {
	t.Helper()
	_, err := s.Apply(change)
	if !errors.Is(err, want) {
		t.Errorf("Apply = %v, want %v", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "HASH") {
		t.Errorf("%v shows a hash", err)
	}
}

// same compares what a reader returns.
func same[T any](t *testing.T, read func() ([]T, error), want ...T) {
	t.Helper()
	got, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append([]T{}, want...), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// found wants a reader to find something.
func found[T any](t *testing.T, want T) func(T, bool, error) {
	return func(got T, ok bool, err error) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
			t.Errorf("found %v, %v (-want +got)\n%s", ok, err, diff)
		}
	}
}

// lost wants a reader to find nothing.
func lost[T any](t *testing.T) func(T, bool, error) {
	return func(_ T, ok bool, err error) {
		t.Helper()
		if ok || err != nil {
			t.Errorf("found %v, %v", ok, err)
		}
	}
}

func TestUsers(t *testing.T) {
	s := open(t)
	alice := store.User{User: fleet.User{Name: "alice", Role: bus.Admin, CreatedAt: start, CreatedBy: fleet.Local}}
	bob := store.User{User: fleet.User{Name: "bob", Role: bus.Viewer, CreatedAt: start, HasPassword: true}, PasswordHash: "$argon2id$"}
	refuse(t, s, store.PutUser(alice), store.ErrMissing)
	apply(t, s, store.CreateUser(bob), store.CreateUser(alice))
	refuse(t, s, store.CreateUser(alice), store.ErrExists)
	same(t, s.Users, alice, bob)

	alice.PasswordHash, alice.LastLogin = "$argon2id$x", &start
	apply(t, s, store.PutUser(alice))
	alice.HasPassword = true // the store sees to that
	found(t, alice)(s.User("alice"))

	apply(t, s, store.DeleteUser("alice"))
	lost[store.User](t)(s.User("alice"))
	refuse(t, s, store.DeleteUser("alice"), store.ErrMissing)
	refuse(t, s, store.PutUser(alice), store.ErrMissing)
	same(t, s.Users, bob)
}

func TestLinkIsSpentOnce(t *testing.T) {
	s := open(t)
	link := store.Link{Hash: "HASH", User: "alice", Role: bus.Operator, ExpiresAt: start}
	apply(t, s, store.PutLink(link))
	found(t, link)(s.Link("HASH"))
	same(t, s.Links, link)
	apply(t, s, store.DeleteLink("HASH"))
	refuse(t, s, store.DeleteLink("HASH"), store.ErrMissing)
	lost[store.Link](t)(s.Link("HASH"))
}

func TestAPITokens(t *testing.T) {
	s := open(t)
	token := func(id, hash string, age time.Duration) store.APIToken {
		return store.APIToken{APIToken: fleet.APIToken{ID: id, Name: "ci", Role: bus.Operator, CreatedAt: start.Add(-age)}, Hash: hash}
	}
	young, old := token("1", "HASH-A", 0), token("2", "HASH-B", time.Hour)
	apply(t, s, store.CreateAPIToken(young), store.CreateAPIToken(old))
	refuse(t, s, store.CreateAPIToken(young), store.ErrExists)
	same(t, s.APITokens, old, young)
	old.LastUsed = &start
	apply(t, s, store.PutAPIToken(old))
	found(t, old)(s.APITokenByHash("HASH-B"))

	apply(t, s, store.DeleteAPIToken("2"))
	lost[store.APIToken](t)(s.APITokenByHash("HASH-B"))
	refuse(t, s, store.DeleteAPIToken("2"), store.ErrMissing)
	refuse(t, s, store.PutAPIToken(old), store.ErrMissing) // a late note of its use
	same(t, s.APITokens, young)
}

func TestSessions(t *testing.T) {
	s := open(t)
	session := store.Session{Hash: "HASH", User: "alice", Data: []byte{0, '"'}, ExpiresAt: start}
	apply(t, s, store.PutSession(session))
	session.ExpiresAt = start.Add(time.Hour)
	apply(t, s, store.PutSession(session))
	found(t, session)(s.Session("HASH"))
	same(t, s.Sessions, session)
	apply(t, s, store.DeleteSession("HASH"), store.DeleteSession("HASH"))
	lost[store.Session](t)(s.Session("HASH"))
}

func TestEnrolmentTokenIsSpentOnce(t *testing.T) {
	s := open(t)
	token := store.EnrolmentToken{EnrolmentToken: fleet.EnrolmentToken{ID: "1", Host: "web1", CreatedAt: start}, Hash: "HASH"}
	refuse(t, s, store.SpendEnrolmentToken("HASH", "UKEY", start), store.ErrMissing)
	apply(t, s, store.CreateEnrolmentToken(token))
	refuse(t, s, store.CreateEnrolmentToken(token), store.ErrExists)
	apply(t, s, store.SpendEnrolmentToken("HASH", "UKEY", start))
	refuse(t, s, store.SpendEnrolmentToken("HASH", "UOTHER", start), store.ErrChanged)
	token.SpentAt, token.SpentBy = &start, "UKEY"
	found(t, token)(s.EnrolmentTokenByHash("HASH"))
	same(t, s.EnrolmentTokens, token)
	apply(t, s, store.DeleteEnrolmentToken("1"))
	refuse(t, s, store.DeleteEnrolmentToken("1"), store.ErrMissing)
	lost[store.EnrolmentToken](t)(s.EnrolmentTokenByHash("HASH"))
}

// An agent that asks again with a used token gets its answer again; so no token
// may outlive the identity that it gave.
func TestEnrolmentTokensGoWithTheIdentity(t *testing.T) {
	s := open(t)
	token := func(id, host string) store.EnrolmentToken {
		return store.EnrolmentToken{EnrolmentToken: fleet.EnrolmentToken{ID: id, Host: host, CreatedAt: start}, Hash: "HASH" + id}
	}
	apply(t, s, store.PutHost(fleet.Host{Name: "web1"}), store.CreateEnrolmentToken(token("1", "web1")),
		store.CreateEnrolmentToken(token("2", "web1")), store.CreateEnrolmentToken(token("3", "db")))
	apply(t, s, store.SpendEnrolmentToken("HASH2", "UKEY", start))
	lost[store.EnrolmentToken](t)(s.EnrolmentTokenByHash("HASH1"))
	apply(t, s, store.DeleteHost("web1"))
	same(t, s.EnrolmentTokens, token("3", "db"))
}

func TestCredentialsAndRevocations(t *testing.T) {
	s := open(t)
	second := fleet.NATSCredentials{Name: "alice", PublicKey: "UA", CreatedAt: start.Add(time.Hour)}
	first := fleet.NATSCredentials{Name: "alice", PublicKey: "UB", CreatedAt: start}
	apply(t, s, store.PutNATSCredentials(second), store.PutNATSCredentials(first))
	first.RevokedAt = &second.CreatedAt
	revocation := store.Revocation{PublicKey: "UB", Operator: true, At: start}
	apply(t, s, store.PutNATSCredentials(first), store.PutRevocation(revocation))
	same(t, s.NATSCredentials, first, second)
	same(t, s.Revocations, revocation)
	apply(t, s, store.DeleteRevocation("UB"), store.DeleteRevocation("UB"))
	same(t, s.Revocations)
}

func TestSealedPassphrasesGoWithTheirOwners(t *testing.T) {
	s := open(t)
	sealed := fleet.SealedPassphrase{Sealed: secret.Sealed{Sender: "X", Ciphertext: []byte{0, 1}}, SealKey: "XKEY"}
	apply(t, s, store.PutHost(fleet.Host{Name: "web1"}),
		store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: "main"}}),
		store.PutSealed("main", "web1", sealed), store.PutSealed("main", "db", sealed), store.PutSealed("main-2", "web1", sealed),
		store.PutSealed("main-2", "db", sealed), store.PutSealed("main-2", "gone", sealed), store.DeleteSealed("main-2", "gone"))
	found(t, sealed)(s.Sealed("main", "web1"))
	hosts := func(repository string) func() ([]string, error) {
		return func() ([]string, error) { return s.SealedHosts(repository) }
	}
	same(t, hosts("main"), "db", "web1")
	apply(t, s, store.DeleteHost("web1"))
	same(t, hosts("main"), "db")
	apply(t, s, store.DeleteRepository("main"))
	same(t, hosts("main"))
	same(t, hosts("main-2"), "db")
	if has, err := s.HasSecrets(); has || err != nil { // the vault's key is not needed for these
		t.Errorf("HasSecrets = %v, %v", has, err)
	}
}
