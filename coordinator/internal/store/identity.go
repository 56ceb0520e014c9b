package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"go.etcd.io/bbolt"
)

// User is a person who may sign in, with the hash of the password.
type User struct {
	fleet.User
	PasswordHash string `json:"password_hash"` // argon2id, PHC string; empty: none yet
}

// Link lets a person choose a password, once: at the first set-up, after an
// invitation, or when the old password is forgotten.
type Link struct {
	Hash      string    `json:"hash"` // hex SHA-256 of the link's token
	User      string    `json:"user"` // empty: whoever sets up first chooses a name
	Role      bus.Role  `json:"role"`
	ExpiresAt time.Time `json:"expires_at"`
}

// APIToken lets a program in, as far as it is stored.
type APIToken struct {
	fleet.APIToken
	Hash string `json:"hash"` // hex SHA-256 of the token
}

// Session is a browser that is signed in.
type Session struct {
	Hash      string    `json:"hash"` // hex SHA-256 of the session's token
	User      string    `json:"user"`
	Data      []byte    `json:"data"` // opaque to the store
	ExpiresAt time.Time `json:"expires_at"`
}

// EnrolmentToken lets one agent ask for an identity, as far as it is stored.
type EnrolmentToken struct {
	fleet.EnrolmentToken
	Hash    string `json:"hash"`     // hex SHA-256 of the token
	SpentBy string `json:"spent_by"` // public key of the agent that used it; empty: nobody yet
}

// Revocation is a bus identity that has lost its rights, which the bus has yet
// to be told. It is stored in the transaction that takes the rights away, and
// deleted when the bus knows.
type Revocation struct {
	PublicKey string    `json:"public_key"`
	Operator  bool      `json:"operator"` // else an agent
	At        time.Time `json:"at"`
}

// CreateUser stores a new user; [ErrExists] if the name is taken.
func CreateUser(u User) Change { return userPut(u, true) }

// PutUser changes a user. [ErrMissing] if there is no such user, so that a
// change that comes late does not bring a removed user back.
func PutUser(u User) Change { return userPut(u, false) }

func userPut(u User, create bool) Change {
	u.HasPassword = u.PasswordHash != ""
	return recordPut{bucket: bucketUsers, key: u.Name, value: u, create: create, change: !create}
}

// DeleteUser removes a user, and nothing that belongs to it; [ErrMissing] if
// there is no such user.
func DeleteUser(name string) Change {
	return recordDelete{bucket: bucketUsers, key: name, require: true}
}

// User returns a user.
func (s *Store) User(name string) (User, bool, error) { return one[User](s, bucketUsers, name) }

// Users returns every user by name.
func (s *Store) Users() ([]User, error) { return many[User](s, bucketUsers, "") }

// PutLink stores a link.
func PutLink(l Link) Change { return recordPut{bucket: bucketLinks, key: l.Hash, value: l} }

// DeleteLink removes a link; [ErrMissing] if it is gone, so that it is spent
// once only.
func DeleteLink(hash string) Change {
	return recordDelete{bucket: bucketLinks, key: hash, require: true}
}

// Link returns the link with this hash, also when its time is over.
func (s *Store) Link(hash string) (Link, bool, error) { return one[Link](s, bucketLinks, hash) }

// Links returns every link, in no order that means something.
func (s *Store) Links() ([]Link, error) { return many[Link](s, bucketLinks, "") }

// CreateAPIToken stores a new token; [ErrExists] if the hash is known.
func CreateAPIToken(t APIToken) Change {
	return recordPut{bucket: bucketAPITokens, key: t.Hash, value: t, create: true}
}

// PutAPIToken changes a token. [ErrMissing] if there is no such token, so that
// a note of its last use does not bring a removed token back.
func PutAPIToken(t APIToken) Change {
	return recordPut{bucket: bucketAPITokens, key: t.Hash, value: t, change: true}
}

// DeleteAPIToken removes a token by its id; [ErrMissing] if it is not there.
func DeleteAPIToken(id string) Change { return tokenDelete{bucket: bucketAPITokens, id: id} }

// APITokenByHash returns the token with this hash, also when its time is over.
func (s *Store) APITokenByHash(hash string) (APIToken, bool, error) {
	return one[APIToken](s, bucketAPITokens, hash)
}

// APITokens returns every token, the oldest first.
func (s *Store) APITokens() ([]APIToken, error) {
	tokens, err := many[APIToken](s, bucketAPITokens, "")
	slices.SortFunc(tokens, func(a, b APIToken) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return tokens, err
}

// PutSession stores a session, new or not.
func PutSession(session Session) Change {
	return recordPut{bucket: bucketSessions, key: session.Hash, value: session}
}

// DeleteSession removes a session, if it is there.
func DeleteSession(hash string) Change { return recordDelete{bucket: bucketSessions, key: hash} }

// Session returns the session with this hash, also when its time is over.
func (s *Store) Session(hash string) (Session, bool, error) {
	return one[Session](s, bucketSessions, hash)
}

// Sessions returns every session, in no order that means something.
func (s *Store) Sessions() ([]Session, error) { return many[Session](s, bucketSessions, "") }

// CreateEnrolmentToken stores a new token; [ErrExists] if the hash is known.
func CreateEnrolmentToken(t EnrolmentToken) Change {
	return recordPut{bucket: bucketEnrolmentTokens, key: t.Hash, value: t, create: true}
}

// DeleteEnrolmentToken removes a token by its id; [ErrMissing] if it is not
// there.
func DeleteEnrolmentToken(id string) Change {
	return tokenDelete{bucket: bucketEnrolmentTokens, id: id}
}

// SpendEnrolmentToken marks the token as used by an agent, and removes all
// others of the same host. [ErrMissing] if it is not there, [ErrChanged] if it
// was spent already, whoever did. Whether its time is over is for the caller to
// judge.
func SpendEnrolmentToken(hash, publicKey string, at time.Time) Change {
	return tokenSpend{hash: hash, publicKey: publicKey, at: at}
}

// EnrolmentTokenByHash returns the token with this hash, also when it is spent
// or its time is over.
func (s *Store) EnrolmentTokenByHash(hash string) (EnrolmentToken, bool, error) {
	return one[EnrolmentToken](s, bucketEnrolmentTokens, hash)
}

// EnrolmentTokens returns every token, the oldest first.
func (s *Store) EnrolmentTokens() ([]EnrolmentToken, error) {
	tokens, err := many[EnrolmentToken](s, bucketEnrolmentTokens, "")
	slices.SortFunc(tokens, func(a, b EnrolmentToken) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return tokens, err
}

// PutNATSCredentials stores the record of credentials, new or not, by their
// public key: a name may have had several.
func PutNATSCredentials(c fleet.NATSCredentials) Change {
	return recordPut{bucket: bucketNATSCredentials, key: c.PublicKey, value: c}
}

// NATSCredentials returns every record by name, then age.
func (s *Store) NATSCredentials() ([]fleet.NATSCredentials, error) {
	records, err := many[fleet.NATSCredentials](s, bucketNATSCredentials, "")
	slices.SortFunc(records, func(a, b fleet.NATSCredentials) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.CreatedAt.Compare(b.CreatedAt))
	})
	return records, err
}

// PutRevocation stores what the bus has yet to be told.
func PutRevocation(r Revocation) Change {
	return recordPut{bucket: bucketRevocations, key: r.PublicKey, value: r}
}

// DeleteRevocation removes what the bus knows, if it is there.
func DeleteRevocation(publicKey string) Change {
	return recordDelete{bucket: bucketRevocations, key: publicKey}
}

// Revocations returns what the bus has yet to be told.
func (s *Store) Revocations() ([]Revocation, error) {
	return many[Revocation](s, bucketRevocations, "")
}

// PutSealed stores a repository's passphrase as it was sealed to a host.
func PutSealed(repository, host string, sealed fleet.SealedPassphrase) Change {
	return recordPut{bucket: bucketSealed, key: pairKey(repository, host), value: sealed}
}

// DeleteSealed removes the passphrase that was sealed to a host, if it is there.
func DeleteSealed(repository, host string) Change {
	return recordDelete{bucket: bucketSealed, key: pairKey(repository, host)}
}

// Sealed returns a repository's passphrase as it was sealed to a host.
func (s *Store) Sealed(repository, host string) (fleet.SealedPassphrase, bool, error) {
	return one[fleet.SealedPassphrase](s, bucketSealed, pairKey(repository, host))
}

// SealedHosts returns the hosts that a repository's passphrase is sealed to, by
// name.
func (s *Store) SealedHosts(repository string) ([]string, error) {
	hosts, prefix := []string{}, []byte(pairKey(repository, ""))
	err := s.db.View(func(tx *bbolt.Tx) error {
		for _, key := range keysWithPrefix(tx.Bucket([]byte(bucketSealed)), prefix) {
			hosts = append(hosts, string(key[len(prefix):]))
		}
		return nil
	})
	return hosts, err
}
