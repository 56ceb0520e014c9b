package redirect_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/redirect"
)

func TestLocal(t *testing.T) {
	for address, want := range map[string]string{
		"/": "/", "/jobs": "/jobs", "/jobs?host=web1&state=failed": "/jobs?host=web1&state=failed",
		"/jobs?next=//evil.example": "/jobs?next=//evil.example", "/a%20b": "/a%20b", "/jobs#last": "/jobs",
		"": "/", "jobs": "/", "?a=b": "/", "//evil.example": "/", "///evil.example": "/", `/\evil.example`: "/", `\\evil.example`: "/",
		"https://evil.example/": "/", "https:evil.example": "/", "javascript:alert(1)": "/", "//alice@evil.example": "/",
		"/jobs\n//evil.example": "/", "/%zz": "/", " /jobs": "/", "/\t/evil.example": "/",
	} {
		if got := redirect.Local(address); got != want {
			t.Errorf("Local(%q) = %q, want %q", address, got, want)
		}
	}
}
