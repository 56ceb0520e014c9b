package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	oidclib "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// claims is what a provider says about a person.
type claims map[string]any

func (h *Handler) client(p *provider) *oauth2.Config {
	return &oauth2.Config{ClientID: h.ClientID, Endpoint: p.endpoint, Scopes: p.scopes, RedirectURL: h.home.JoinPath(callbackPath).String()}
}

// authorizeURL is where the provider asks the person.
func (h *Handler) authorizeURL(p *provider, a attempt) string {
	return h.client(p).AuthCodeURL(a.State, oidclib.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier))
}

// exchange gives the provider the code that it gave to the browser, and returns
// what it says about the person.
func (h *Handler) exchange(ctx context.Context, a attempt, code string) (claims, error) {
	p, err := h.directory.provider(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway(), err)
	}
	client := h.client(p)
	value, err := secret.ReadFile(h.ClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("read the client secret: %w", err)
	}
	client.ClientSecret = string(value.Reveal())
	ctx = oidclib.ClientContext(ctx, h.directory.client)
	token, err := client.Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, exchangeError(err)
	}
	said, subject, err := h.verify(ctx, p, token, a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnconfirmed(), err)
	}
	if err := h.complete(ctx, p, token, subject, said); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnconfirmed(), err)
	}
	return said, nil
}

// exchangeError tells a provider that refuses from one that is away. Its
// answer's text is left out: it may repeat what was sent.
func exchangeError(err error) error {
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return fmt.Errorf("%w: exchange the code: %s, error %q", errUnconfirmed(), refused.Response.Status, refused.ErrorCode)
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%w: exchange the code: %w", errAway(), err)
	}
	return fmt.Errorf("%w: exchange the code: %w", errUnconfirmed(), err)
}

// errUnconfirmed is for whoever comes with an answer that does not hold.
func errUnconfirmed() *job.Failure {
	return job.Fail(job.NotAuthenticated, "the identity provider did not confirm who you are").
		WithHint("begin again; the coordinator's log says what was wrong")
}

// verify checks that the ID token is the provider's, for us, still good, and
// made for this attempt.
func (h *Handler) verify(ctx context.Context, p *provider, token *oauth2.Token, a attempt) (claims, string, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, "", errors.New("there is no ID token in its answer")
	}
	verified, err := p.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, "", fmt.Errorf("verify the ID token: %w", err)
	}
	if !same(verified.Nonce, a.Nonce) {
		return nil, "", errors.New("verify the ID token: it was made for another sign-in")
	}
	said := claims{}
	if err := verified.Claims(&said); err != nil {
		return nil, "", fmt.Errorf("read the ID token: %w", err)
	}
	if party, present := said["azp"]; present && party != h.ClientID {
		return nil, "", fmt.Errorf("verify the ID token: it was made for %q", party)
	}
	return said, verified.Subject, nil
}

// complete asks the provider for the claims that are not in the ID token: some
// keep names and groups out of it.
func (h *Handler) complete(ctx context.Context, p *provider, token *oauth2.Token, subject string, said claims) error {
	_, named := said[h.NameClaim]
	_, grouped := said[h.RoleClaim]
	if named && grouped || p.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return fmt.Errorf("ask about the person: %w", err)
	}
	if !same(info.Subject, subject) { // the specification wants this looked at
		return errors.New("ask about the person: the answer is about another one")
	}
	more := claims{}
	if err := info.Claims(&more); err != nil {
		return fmt.Errorf("read about the person: %w", err)
	}
	for claim, value := range more {
		if _, present := said[claim]; !present {
			said[claim] = value
		}
	}
	return nil
}

// person returns who somebody is here, by what the provider says.
func (h *Handler) person(said claims) (name string, role bus.Role, err error) {
	name, _ = said[h.NameClaim].(string)
	if name == "" {
		return "", "", job.Fail(job.NotAllowed, "the identity provider does not say what you are called").
			WithHint("an admin sets oidc.name_claim in coordinator.yaml to a claim that it has; %s is not one", h.NameClaim)
	}
	groups := texts(said[h.RoleClaim])
	for _, group := range groups {
		if given, ok := h.Roles[group]; ok && !role.Includes(given) {
			role = given
		}
	}
	if role == "" {
		return "", "", fmt.Errorf("%w: %s is %q", job.Fail(job.NotAllowed, "%s has no role in borgfleet", name).
			WithHint("an admin gives one to a group of yours: oidc.roles in coordinator.yaml"), h.RoleClaim, groups)
	}
	return name, role, nil
}

// texts returns a claim that is a list of texts, or one.
func texts(claim any) (all []string) {
	switch value := claim.(type) {
	case string:
		return []string{value}
	case []any:
		for _, element := range value {
			if text, ok := element.(string); ok {
				all = append(all, text)
			}
		}
	}
	return all
}
