package broker

import (
	"fmt"
	"math"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Accounts.
const (
	systemAccount    = "sys"
	fleetAccount     = "fleet"
	agentsAccount    = "agents"
	operatorsAccount = "operators"
)

func accountNames() []string {
	return []string{systemAccount, fleetAccount, agentsAccount, operatorsAccount}
}

// Roles of agents and of those who want to become one; the others are
// operators' roles and those of the coordinator's connections.
const (
	agentRole = "agent"
	enrolRole = "enroll"
)

// Limits of one agent, and of one who enrols.
const (
	agentSubscriptions = 16
	enrolSubscriptions = 2
	enrolPayload       = 16 << 10
	unlimited          = jwt.NoLimit
)

// role is what a scoped signing key may mint.
type role struct {
	account     string
	permissions bus.Permissions
	limits      jwt.NatsLimits
}

// roles are all of them by name. A role's name is that of its key's file.
func roles() map[string]role {
	free := jwt.NatsLimits{Subs: unlimited, Data: unlimited, Payload: unlimited}
	all := map[string]role{
		agentRole: {agentsAccount, bus.AgentPermissions("{{name()}}"), jwt.NatsLimits{
			Subs: agentSubscriptions, Data: unlimited, Payload: bus.MaxMessageBytes,
		}},
		enrolRole: {agentsAccount, bus.EnrolPermissions(), jwt.NatsLimits{
			Subs: enrolSubscriptions, Data: unlimited, Payload: enrolPayload,
		}},
		"coordinator-" + agentsConnection: {agentsAccount, bus.AgentsPermissions(), free},
		"coordinator-" + streamConnection: {fleetAccount, bus.StreamPermissions(), free},
		"coordinator-" + apiConnection:    {fleetAccount, bus.APIPermissions(), free},
		"coordinator-" + systemConnection: {systemAccount, bus.SystemPermissions(), free},
	}
	for _, name := range bus.Roles() {
		all[string(name)] = role{operatorsAccount, bus.OperatorPermissions(name), free}
	}
	return all
}

func roleNames() []string {
	names := make([]string, 0, len(roles()))
	for name := range roles() {
		names = append(names, name)
	}
	return names
}

// accounts makes the JWTs of operator and accounts from the keys, at every
// start and at every revocation.
type accounts struct {
	keys     *keyring
	resolver *server.MemAccResolver
	revoked  map[string]revocations // by account
}

func newAccounts(keys *keyring, revoked map[string]revocations) (*accounts, error) {
	a := &accounts{keys: keys, resolver: &server.MemAccResolver{}, revoked: revoked}
	for _, name := range accountNames() {
		if _, err := a.issue(name); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// endOfTime is up to when the credentials of a revoked key were issued. A server
// believes those that say they were issued later than that; what they say is
// what the clock of their time did, and no key that was revoked comes back.
func endOfTime() time.Time { return time.Unix(math.MaxInt64, 0) }

// operator returns the self-signed JWT that the server trusts.
func (a *accounts) operator() (string, error) {
	claims := jwt.NewOperatorClaims(public(a.keys.operator))
	claims.Name = "borgfleet"
	claims.SystemAccount = public(a.keys.accounts[systemAccount])
	token, err := claims.Encode(a.keys.operator)
	if err != nil {
		return "", fmt.Errorf("sign bus operator: %w", err)
	}
	return token, nil
}

// issue makes an account's JWT and hands it to the server's resolver.
func (a *accounts) issue(name string) (*jwt.AccountClaims, error) {
	key := public(a.keys.accounts[name])
	claims := jwt.NewAccountClaims(key)
	claims.Name = name
	for roleName, role := range roles() {
		if role.account == name {
			claims.SigningKeys.AddScopedSigner(scope(roleName, role, a.keys.roles[roleName]))
		}
	}
	a.share(name, claims)
	for publicKey := range a.revoked[name] {
		claims.RevokeAt(publicKey, endOfTime())
	}
	var faults jwt.ValidationResults
	claims.Validate(&faults)
	if blocking := faults.Errors(); len(blocking) > 0 {
		return nil, fmt.Errorf("bus account %s: %w", name, blocking[0])
	}
	token, err := claims.Encode(a.keys.operator)
	if err != nil {
		return nil, fmt.Errorf("sign bus account %s: %w", name, err)
	}
	if err := a.resolver.Store(key, token); err != nil {
		return nil, fmt.Errorf("store bus account %s: %w", name, err)
	}
	return jwt.DecodeAccountClaims(token)
}

// share sets what an account may use of others, and lets others use.
//
// Requests of operators come with Share, so that the server itself says who
// asks. One request to [bus.Discovery] may have several answers.
func (a *accounts) share(name string, claims *jwt.AccountClaims) {
	fleet := public(a.keys.accounts[fleetAccount])
	switch name {
	case fleetAccount:
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: unlimited, DiskStorage: unlimited, Streams: unlimited, Consumer: unlimited,
		}
		claims.Exports.Add(
			&jwt.Export{Name: "agents' events", Subject: bus.StreamSubjects, Type: jwt.Service},
			&jwt.Export{Name: "discovery", Subject: bus.Discovery, Type: jwt.Service, ResponseType: jwt.ResponseTypeStream},
		)
		for _, subject := range bus.Requests() {
			claims.Exports.Add(&jwt.Export{Name: subject, Subject: jwt.Subject(subject), Type: jwt.Service})
		}
		for _, subject := range bus.Changes() {
			claims.Exports.Add(&jwt.Export{Name: subject, Subject: jwt.Subject(subject), Type: jwt.Stream})
		}
	case agentsAccount:
		claims.Imports.Add(&jwt.Import{
			Name: "agents' events", Account: fleet, Type: jwt.Service,
			Subject: bus.StreamSubjects, LocalSubject: bus.AgentEvents,
		})
	case operatorsAccount:
		for _, subject := range append(bus.Requests(), bus.Discovery) {
			claims.Imports.Add(&jwt.Import{Name: subject, Account: fleet, Subject: jwt.Subject(subject), Type: jwt.Service, Share: true})
		}
		for _, subject := range bus.Changes() {
			claims.Imports.Add(&jwt.Import{Name: subject, Account: fleet, Subject: jwt.Subject(subject), Type: jwt.Stream})
		}
	}
}

// scope turns a role into the template that the server applies to every user
// minted with its key.
func scope(name string, role role, key nkeys.KeyPair) *jwt.UserScope {
	scope := jwt.NewUserScope()
	scope.Key, scope.Role = public(key), name
	scope.Template.NatsLimits = role.limits
	scope.Template.BearerToken = name == enrolRole
	scope.Template.Pub.Allow = role.permissions.Publish
	scope.Template.Sub.Allow = role.permissions.Subscribe
	if role.permissions.Responses {
		scope.Template.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
	}
	return scope
}

// public returns the public part of a key whose private part we hold; that
// cannot fail.
func public(pair nkeys.KeyPair) string {
	key, err := pair.PublicKey()
	if err != nil {
		panic(fmt.Sprintf("public part of a key pair: %v", err))
	}
	return key
}
