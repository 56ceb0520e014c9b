package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/agent/internal/config"
)

var patch = config.Patch{Host: "web9", Bus: config.Bus{
	URLs: []string{"tls://b:4222", "tls://10.0.0.7:4222"}, CredentialsFile: "/etc/borgfleet/agent.creds",
	SignerFile: "/etc/borgfleet/signer.pub", CAFile: "/etc/borgfleet/ca.pem",
}}

func TestPatchKeepsEverythingElse(t *testing.T) {
	sample, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text string
		keep []string // lines that must still be there
	}{
		"no file":       {"", nil},
		"only comments": {"# mine\n", []string{"# mine"}},
		"sample":        {string(sample), []string{"slots: 1 # jobs that run at once", "  read: [\"/\"] # only what is below may be backed up"}},
		"no bus":        {"slots: 2 # two\npolicy:\n  # mine\n  read: [/srv]\n", []string{"slots: 2 # two", "  # mine", "  read: [/srv]"}},
		"bus in a line": {"bus: {urls: [a, b], credentials_file: x}\nslots: 3\n", []string{"slots: 3"}},
		"bus of lines":  {"host: web9\nbus:\n  urls:\n    - a # first\n    - b\n  # creds\n  credentials_file: x\n\n# more\nslots: 3 # three\n", []string{"# more", "slots: 3 # three"}},
		"empty bus":     {"bus:\nslots: 3\n", []string{"slots: 3"}},
		"no line end":   {"slots: 3", []string{"slots: 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := patch.Apply([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range test.keep {
				if !strings.Contains("\n"+string(text)+"\n", "\n"+line+"\n") {
					t.Errorf("lost %q in:\n%s", line, text)
				}
			}
			want := config.Default()
			if test.text != "" {
				if want, err = load(t, test.text); err != nil {
					t.Fatal(err)
				}
			}
			want.Host, want.Bus = patch.Host, patch.Bus
			got, err := load(t, string(text))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("error %v, (-want +got):\n%s\nin:\n%s", err, diff, text)
			}
			again, err := patch.Apply(text)
			if err != nil || string(again) != string(text) {
				t.Errorf("a second time changes it (%v):\n%s", err, again)
			}
		})
	}
}

func TestPatchSetsTheDataDirectoryWhenAsked(t *testing.T) {
	p := patch
	p.Data = "/srv/agent"
	text, err := p.Apply([]byte("data: /old\nslots: 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := load(t, string(text)); err != nil || got.Data != "/srv/agent" || got.Slots != 2 {
		t.Errorf("%+v, error %v", got, err)
	}
}

func TestPatchRefusesWhatIsNoConfiguration(t *testing.T) {
	for name, text := range map[string]string{"not YAML": "host: [\n", "a list": "- host\n"} {
		if out, err := patch.Apply([]byte(text)); err == nil {
			t.Errorf("%s became:\n%s", name, out)
		}
	}
}
