// Package redirect says where a request may send somebody: to this server only.
package redirect

import (
	"net/url"
	"strings"
)

// Local returns the path with its query that an address names if it lies on
// this server, else "/". Whatever a browser could take for another site is none:
// an address with a scheme or a host, also one that begins with two slashes, and
// a backslash, which browsers read as a slash.
func Local(address string) string {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "" || parsed.Host != "" || parsed.User != nil ||
		!strings.HasPrefix(address, "/") || strings.HasPrefix(address, "//") || strings.Contains(address, `\`) {
		return "/"
	}
	return parsed.RequestURI()
}
