package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	oidclib "github.com/coreos/go-oidc/v3/oidc"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/oauth2"
)

// How long a provider may take to answer, and how often it is asked about itself.
const (
	answerWithin = 10 * time.Second
	askAgain     = time.Hour
	retryAfter   = 10 * time.Second
)

// provider is what a provider says about itself, as a client needs it.
type provider struct {
	*oidclib.Provider
	endpoint oauth2.Endpoint
	scopes   []string
	verifier *oidclib.IDTokenVerifier
}

// directory knows what the provider says about itself. It asks when that is
// needed, and again once it is old; a provider that was away it asks again
// soon, but not for each of many who want to sign in.
type directory struct {
	options *Options
	logger  hclog.Logger
	client  *http.Client
	turn    chan struct{} // holds the turn of who uses what follows
	known   *provider
	failed  error // the last answer, while there is none known
	again   time.Time
}

func newDirectory(options *Options) *directory {
	return &directory{
		options: options, logger: options.Logger, client: &http.Client{Timeout: answerWithin}, turn: make(chan struct{}, 1),
	}
}

// provider returns the provider, or why it is not known.
func (d *directory) provider(ctx context.Context) (*provider, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := d.options.Now()
	if now.Before(d.again) {
		return d.known, d.failed
	}
	found, err := d.discover(ctx)
	switch {
	case err == nil:
		d.known, d.failed, d.again = found, nil, now.Add(askAgain)
	case ctx.Err() != nil: // says nothing about the provider
		return nil, ctx.Err()
	case d.known != nil:
		d.again = now.Add(retryAfter)
		d.logger.Warn("ask the identity provider about itself again", "err", cut(err.Error()))
	default:
		d.failed, d.again = err, now.Add(retryAfter)
	}
	return d.known, d.failed
}

// discover asks the provider about itself.
func (d *directory) discover(ctx context.Context) (*provider, error) {
	found, err := oidclib.NewProvider(oidclib.ClientContext(ctx, d.client), d.options.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask %s about itself: %w", d.options.Issuer, err)
	}
	var document struct {
		Keys        string   `json:"jwks_uri"`
		Scopes      []string `json:"scopes_supported"`
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := found.Claims(&document); err != nil {
		return nil, fmt.Errorf("read what %s says about itself: %w", d.options.Issuer, err)
	}
	endpoint := found.Endpoint()
	addresses := []string{endpoint.AuthURL, endpoint.TokenURL, document.Keys}
	if address := found.UserInfoEndpoint(); address != "" {
		addresses = append(addresses, address)
	}
	for _, address := range addresses {
		if err := d.trust(address); err != nil {
			return nil, err
		}
	}
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // what holds if the document does not say
	if len(document.AuthMethods) > 0 && !slices.Contains(document.AuthMethods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &provider{
		Provider: found, endpoint: endpoint, scopes: d.scopes(document.Scopes),
		verifier: found.Verifier(&oidclib.Config{ClientID: d.options.ClientID, Now: d.options.Now}),
	}, nil
}

// trust refuses an endpoint without encryption, unless the provider as a whole
// is reached so, on this machine.
func (d *directory) trust(endpoint string) error {
	issuer, errIssuer := url.Parse(d.options.Issuer)
	parsed, err := url.Parse(endpoint)
	if errIssuer != nil || err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != issuer.Scheme {
		return fmt.Errorf("ask %s about itself: the endpoint %q is none to trust", d.options.Issuer, endpoint)
	}
	return nil
}

// scopes asks for the claims that are read. Those that are no standard ones have
// a scope of their name at some providers, and others refuse scopes that they
// do not know.
func (d *directory) scopes(supported []string) []string {
	scopes := []string{oidclib.ScopeOpenID, oidclib.ScopeProfile}
	for _, claim := range []string{d.options.NameClaim, d.options.RoleClaim} {
		if slices.Contains(supported, claim) && !slices.Contains(scopes, claim) {
			scopes = append(scopes, claim)
		}
	}
	return scopes
}
