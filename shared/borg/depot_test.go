package borg_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
)

// What ssh makes of the words that a shell, and so borg, makes of the text.
func TestDepotRSH(t *testing.T) {
	tests := map[string]struct {
		access borg.DepotAccess
		want   map[string]string
	}{
		"plain": {
			access: borg.DepotAccess{Identity: "/var/lib/bf/depot_key", KnownHosts: "/var/lib/bf/known", Address: "backup.example.org:8442"},
			want: map[string]string{
				"hostname": "backup.example.org", "port": "8442", "userknownhostsfile": "/var/lib/bf/known",
				"identityfile": "/var/lib/bf/depot_key",
			},
		},
		"spaces, quotes and percent signs": {
			access: borg.DepotAccess{Identity: "/srv/it's 100%d/key file", KnownHosts: "/srv/my data/known hosts", Address: "127.0.0.1:40022"},
			want: map[string]string{
				"hostname": "127.0.0.1", "port": "40022", "userknownhostsfile": "/srv/my data/known hosts",
				"identityfile": "/srv/it's 100%%d/key file",
			},
		},
		"IPv6": {
			access: borg.DepotAccess{Identity: "/k", KnownHosts: "/h", Address: "[2001:db8::1]:22"},
			want:   map[string]string{"hostname": "2001:db8::1", "port": "22", "identityfile": "/k", "userknownhostsfile": "/h"},
		},
		"no port": {
			access: borg.DepotAccess{Identity: "/k", KnownHosts: "/h", Address: "depot.example"},
			want:   map[string]string{"hostname": "depot.example", "port": "22", "identityfile": "/k", "userknownhostsfile": "/h"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			said := sshSays(t, borg.DepotRSH(test.access))
			for key, want := range map[string]string{
				"hostkeyalias": "borgfleet-depot", "stricthostkeychecking": "true", "batchmode": "yes",
				"serveraliveinterval": "15", "identitiesonly": "yes", "user": "vault",
				"globalknownhostsfile": "/dev/null",
			} {
				test.want[key] = want
			}
			got := make(map[string]string, len(test.want))
			for key := range test.want {
				got[key] = said[key]
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("what ssh makes of it (-want +got):\n%s", diff)
			}
		})
	}
}

// sshSays asks ssh what it would do, with a configuration that must not matter.
func sshSays(t *testing.T, rsh string) map[string]string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	text := "Host *\n  StrictHostKeyChecking no\n  HostKeyAlias other\n  Port 99\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", rsh+" -F '"+config+"' -G vault@borgfleet-depot").Output()
	if err != nil {
		t.Fatalf("ssh -G: %v", err)
	}
	said := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[key] = value
	}
	return said
}

func TestDepotKnownHost(t *testing.T) {
	if got, want := borg.DepotKnownHost(" ssh-ed25519 AAAA\n"), "borgfleet-depot ssh-ed25519 AAAA\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
