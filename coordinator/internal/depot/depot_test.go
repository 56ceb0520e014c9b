package depot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func TestBorgMakesAndReadsBackups(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	web := l.host("web1")
	l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault"})
	l.write(filepath.Join(web.dir, "etc", "motd"), "hello")
	web.do("vault", "init", "--encryption=repokey", "REPO")
	web.do("vault", "create", "REPO::first", "etc")
	if got := strings.TrimSpace(web.do("vault", "list", "--short", "REPO")); got != "first" {
		t.Errorf("archives %q", got)
	}
	if err := os.RemoveAll(filepath.Join(web.dir, "etc")); err != nil {
		t.Fatal(err)
	}
	web.do("vault", "extract", "REPO::first")
	if text, err := os.ReadFile(filepath.Join(web.dir, "etc", "motd")); err != nil || string(text) != "hello" {
		t.Errorf("restored %q, %v", text, err)
	}
	use := l.use("vault")
	if use.Connections != 4 || use.Refused != 0 || use.Received < 1000 || use.Sent < 500 {
		t.Errorf("uses %+v", use)
	}
	patience.Until(t, "the last connection to be over", func() bool { return l.use("vault").Open == 0 })
}
