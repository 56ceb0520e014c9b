package notify_test

import (
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// TestSubjectsAreOneLine sends what a host says of itself as the title of a
// message, which is a line of a header.
func TestSubjectsAreOneLine(t *testing.T) {
	server, got := serve(t)
	r := start(t, t.TempDir(), nil)
	defer r.stop()
	r.target(fleet.NewTarget{Name: "ops", URL: secretOf("ntfy://" + strings.TrimPrefix(server.URL, "http://") + "/topic?scheme=http")})
	r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}, Group: "0s"})
	r.raise(fleet.Condition{Plan: "daily", Host: "web1", Message: "no\r\nBcc: all@example.net\n\nhello \x1b[31m" + strings.Repeat("x", 1000)})
	title := receive(t, got).header.Get("Title")
	if !strings.HasPrefix(title, "[borgfleet] critical: no Bcc: all@example.net hello [31mxxx") || len(title) > 400 {
		t.Errorf("title %q", title)
	}
}
