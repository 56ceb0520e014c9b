package gate

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// People keeps users. Safe for concurrent use.
type People interface {
	Users(ctx context.Context) ([]fleet.User, error)
	AddUser(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error)
	SetRole(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, error)
	NewLink(ctx context.Context, by fleet.Actor, name string) (secret.Value, time.Time, error)
	RemoveUser(ctx context.Context, by fleet.Actor, name string) error
}

// People returns users behind the gate.
func (g *Gate) People(inner People) People { return people{inner, g} }

type people struct {
	inner People
	gate  *Gate
}

func (p people) Users(ctx context.Context) ([]fleet.User, error) {
	if err := p.gate.passReader(ctx, "user.list", ""); err != nil {
		return nil, err
	}
	return p.inner.Users(ctx)
}

func (p people) AddUser(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error) {
	if err := p.gate.pass(by, "user.add", "user/"+name); err != nil {
		return fleet.User{}, secret.Value{}, time.Time{}, err
	}
	return p.inner.AddUser(ctx, by, name, role)
}

func (p people) SetRole(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, error) {
	if err := p.gate.pass(by, "user.role", "user/"+name); err != nil {
		return fleet.User{}, err
	}
	return p.inner.SetRole(ctx, by, name, role)
}

func (p people) NewLink(ctx context.Context, by fleet.Actor, name string) (secret.Value, time.Time, error) {
	if err := p.gate.pass(by, "user.link", "user/"+name); err != nil {
		return secret.Value{}, time.Time{}, err
	}
	return p.inner.NewLink(ctx, by, name)
}

func (p people) RemoveUser(ctx context.Context, by fleet.Actor, name string) error {
	if err := p.gate.pass(by, "user.remove", "user/"+name); err != nil {
		return err
	}
	return p.inner.RemoveUser(ctx, by, name)
}

// Tokens keeps API tokens. Safe for concurrent use.
type Tokens interface {
	Tokens(ctx context.Context) ([]fleet.APIToken, error)
	AddToken(ctx context.Context, by fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error)
	RemoveToken(ctx context.Context, by fleet.Actor, id string) error
}

// Tokens returns API tokens behind the gate.
func (g *Gate) Tokens(inner Tokens) Tokens { return tokens{inner, g} }

type tokens struct {
	inner Tokens
	gate  *Gate
}

func (t tokens) Tokens(ctx context.Context) ([]fleet.APIToken, error) {
	if err := t.gate.passReader(ctx, "token.list", ""); err != nil {
		return nil, err
	}
	return t.inner.Tokens(ctx)
}

func (t tokens) AddToken(ctx context.Context, by fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error) {
	if err := t.gate.pass(by, "token.add", "token/"+asked.Name); err != nil {
		return fleet.APIToken{}, secret.Value{}, err
	}
	return t.inner.AddToken(ctx, by, asked)
}

func (t tokens) RemoveToken(ctx context.Context, by fleet.Actor, id string) error {
	if err := t.gate.pass(by, "token.remove", "token/"+id); err != nil {
		return err
	}
	return t.inner.RemoveToken(ctx, by, id)
}

// Credentials keeps what was given out for the bus. Safe for concurrent use.
type Credentials interface {
	Credentials(ctx context.Context) ([]fleet.NATSCredentials, error)
	MintCredentials(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error)
	RevokeCredentials(ctx context.Context, by fleet.Actor, name string) error
}

// Credentials returns credentials for the bus behind the gate.
func (g *Gate) Credentials(inner Credentials) Credentials { return credentials{inner, g} }

type credentials struct {
	inner Credentials
	gate  *Gate
}

func (c credentials) Credentials(ctx context.Context) ([]fleet.NATSCredentials, error) {
	if err := c.gate.passReader(ctx, "nats.credentials.list", ""); err != nil {
		return nil, err
	}
	return c.inner.Credentials(ctx)
}

func (c credentials) MintCredentials(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error) {
	if err := c.gate.pass(by, "nats.credentials.add", "nats-credentials/"+name); err != nil {
		return fleet.NATSCredentials{}, secret.Value{}, err
	}
	return c.inner.MintCredentials(ctx, by, name, role)
}

func (c credentials) RevokeCredentials(ctx context.Context, by fleet.Actor, name string) error {
	if err := c.gate.pass(by, "nats.credentials.remove", "nats-credentials/"+name); err != nil {
		return err
	}
	return c.inner.RevokeCredentials(ctx, by, name)
}
