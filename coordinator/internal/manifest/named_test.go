package manifest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
)

func TestFilesThatATextNames(t *testing.T) {
	got, err := manifest.Files(`
x-path: &pass /etc/borgfleet/main.pass
hosts:
  legacy: {ssh: {identity_file: keys/legacy}}
repositories:
  main: {passphrase_file: *pass}
  other: {passphrase_file: /etc/borgfleet/main.pass, location: /etc/shadow}
notify:
  targets:
    ops: {url_file: ops.url, secret_file: "ops key"}
`)
	want := []string{"/etc/borgfleet/main.pass", "keys/legacy", "ops key", "ops.url"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := manifest.Files("a: [b"); err == nil {
		t.Error("what is not YAML was read")
	}
}
