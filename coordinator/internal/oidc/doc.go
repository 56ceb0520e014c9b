// Package oidc lets people sign in to the pages with an OpenID Connect provider:
// the authorization code flow with PKCE, state and nonce
// (https://openid.net/specs/openid-connect-core-1_0.html, RFC 7636).
//
// The provider proves who somebody is and names their groups; which role that
// is worth is decided here, and who may take which name where the users are. It
// may be away at any time: signing in with a password never depends on it.
// DESIGN.md says what is kept where.
package oidc
