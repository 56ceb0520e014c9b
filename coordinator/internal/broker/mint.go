package broker

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// issuer mints users of one account with one scoped signing key.
type issuer struct {
	account  string // the account's public key
	key      nkeys.KeyPair
	lifetime time.Duration // of what is minted; 0: until it is revoked
}

// user is a freshly minted client.
type user struct {
	token  string // its JWT
	seed   []byte
	public string
}

// mint makes a key and a JWT for it.
func (i issuer) mint(name string) (user, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return user{}, fmt.Errorf("make key of %s: %w", name, err)
	}
	seed, err := pair.Seed() // shares pair's memory, so pair is not wiped
	if err != nil {
		return user{}, fmt.Errorf("seed of %s: %w", name, err)
	}
	token, err := i.sign(name, public(pair))
	if err != nil {
		return user{}, err
	}
	return user{token: token, seed: seed, public: public(pair)}, nil
}

// sign makes a JWT for a key. A user of a scoped key carries no permissions and
// limits itself; the server takes them from the key's template.
func (i issuer) sign(name, publicKey string) (string, error) {
	claims := jwt.NewUserClaims(publicKey)
	claims.Name, claims.IssuerAccount = name, i.account
	claims.SetScoped(true)
	if i.lifetime > 0 {
		claims.Expires = time.Now().Add(i.lifetime).Unix()
	}
	token, err := claims.Encode(i.key)
	if err != nil {
		return "", fmt.Errorf("sign credentials of %s: %w", name, err)
	}
	return token, nil
}

// credentials returns the user as the text of a .creds file.
func (u user) credentials() ([]byte, error) { return jwt.FormatUserConfig(u.token, u.seed) }

// AuthorizeAgent makes a host's agent known to the bus under a key that was made
// on the host: it returns the JWT for that key. What was authorized before for
// that host stays valid until it is revoked. A key that was revoked stays so.
// On an external cluster the JWT expires after a day, and is asked for again
// with bus.RenewSubject. Faults are *job.Failure.
func (b *Broker) AuthorizeAgent(host, publicKey string) (token string, err error) {
	if err := job.CheckHostName("host", host); err != nil {
		return "", err
	}
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return "", job.Invalid("public_key", "%q is not a bus identity's public key", publicKey)
	}
	if b.isRevoked(agentsAccount, publicKey) {
		return "", job.Fail(job.Conflict, "bus identity %s of host %s was revoked", publicKey, host).
			WithHint("make a new one on the host with borgfleet-agent enroll")
	}
	return b.agents.sign(host, publicKey)
}

var operatorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@_-]{0,62}$`)

// MintOperator makes new credentials for a person or a program that uses the
// bus: the text of a .creds file, and the public key by which they are revoked.
// Faults are *job.Failure.
func (b *Broker) MintOperator(name string, role bus.Role) (credentials []byte, publicKey string, err error) {
	if !operatorName.MatchString(name) {
		return nil, "", job.Invalid("name", "%q is not a name", name).WithHint("letters, digits, and @ _ - after the first; at most 63")
	}
	if !slices.Contains(bus.Roles(), role) {
		return nil, "", job.Invalid("role", "%q is not a role", role).WithHint("one of viewer, operator, admin")
	}
	if !b.keys.own() {
		return nil, "", job.Fail(job.Unavailable, "operators of an external bus are not made here").
			WithHint("make a user of the account OPERATORS where the cluster is administered, for example with nsc")
	}
	operator, err := b.keys.issuer(string(role)).mint(name)
	if err != nil {
		return nil, "", err
	}
	credentials, err = operator.credentials()
	return credentials, operator.public, err
}

// WriteOperatorCredentials mints credentials into a file that only its owner
// may read. A file with credentials of this bus is left alone; any other, such
// as one from before operators had an account of their own, is replaced.
func (b *Broker) WriteOperatorCredentials(path, name string, role bus.Role) error {
	if account, err := accountOf(path); err == nil && account == b.keys.issuer(string(role)).account {
		return nil
	}
	credentials, _, err := b.MintOperator(name, role)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, credentials, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write credentials %s: %w", path, err)
	}
	return nil
}

// issuer returns what mints users of a role.
func (k *keyring) issuer(roleName string) issuer {
	return issuer{account: public(k.accounts[roles()[roleName].account]), key: k.roles[roleName]}
}

// Operator returns who an operator's JWT stands for. It is believed because of
// its signature alone, wherever it comes from: name and role are what the
// signing key has vouched for.
func (b *Broker) Operator(token string) (name string, role bus.Role, known bool) {
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil || b.isRevoked(operatorsAccount, claims.Subject) {
		return "", "", false
	}
	if claims.Expires != 0 && claims.Expires < time.Now().Unix() {
		return "", "", false
	}
	role, known = b.operators[claims.Issuer]
	return claims.Name, role, known
}
