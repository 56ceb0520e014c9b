// Package oidc lets people sign in to the pages with an OpenID Connect provider.
package oidc

import (
	_ "github.com/coreos/go-oidc/v3/oidc"
	_ "golang.org/x/oauth2"
)
