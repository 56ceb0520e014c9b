package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/shared/job"
)

func load(t *testing.T, text string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

func TestSampleHoldsTheDefaults(t *testing.T) {
	sample, err := config.Load(filepath.Join("..", "..", "..", "deploy", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Host, want.Bus.SignerFile = "web1", "/etc/borgfleet/signer.pub"
	if diff := cmp.Diff(want, sample); diff != "" {
		t.Errorf("sample differs from the defaults (-default +sample):\n%s", diff)
	}
	if _, err := sample.Complete(); err != nil {
		t.Errorf("sample is not valid: %v", err)
	}
}

func TestFileWithoutKeysIsTheDefaults(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "comments": "# nothing\n", "null": "---\n"} {
		t.Run(name, func(t *testing.T) {
			got, err := load(t, text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(config.Default(), got); diff != "" {
				t.Errorf("differs from the defaults:\n%s", diff)
			}
		})
	}
}

func TestFileOverlaysDefaults(t *testing.T) {
	got, err := load(t, `
host: db1
borg: {nice: 0, lock_wait: 90s}
policy: {kinds: [backup], read: [/srv], extra_options: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Host = "db1"
	want.Borg.Nice, want.Borg.LockWait = 0, 90*time.Second
	want.Policy.Kinds, want.Policy.Read, want.Policy.ExtraOptions = []job.Kind{job.Backup}, []string{"/srv"}, true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadFiles(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"unknown key":        {"hosst: web1\n", "hosst"},
		"unknown nested key": {"policy:\n  reed: [/]\n", "reed"},
		"wrong type":         {"slots: many\n", "slots"},
		"not a switch":       {"policy: {extra_options: some}\n", "extra_options"},
		"not YAML":           {"host: [\n", "configuration"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want one with %q", err, test.want)
			}
		})
	}
	if _, err := config.Load(filepath.Join(t.TempDir(), "missing.yaml")); err == nil {
		t.Error("a file that was named and is missing is no error")
	}
}

func TestCompleteReportsEveryFault(t *testing.T) {
	c := config.Default()
	c.Host, c.Data, c.Slots = "Web 1", "", 0
	c.Bus = config.Bus{URLs: []string{"http://x", "nats://user:pass@x:4222"}}
	c.Borg = config.Borg{Nice: 20, IONice: "fast", UploadLimit: "10", LockWait: -1}
	c.Policy = config.Policy{
		Kinds: []job.Kind{"backups"}, Read: []string{"home"}, Restore: []string{""}, Repositories: []string{"[x"}, Hooks: "hooks.d"}
	c.Log = config.Log{Level: "loud", Format: "xml"}
	_, err := c.Complete()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{
		"host", "data", "slots", "bus.urls[0]", "bus.urls[1]", "bus.credentials_file", "borg.binary", "borg.nice", "borg.ionice",
		"borg.upload_limit", "borg.lock_wait", "policy.kinds[0]", "policy.read[0]", "policy.restore[0]",
		"policy.repositories[0]", "policy.hooks", "log.level", "log.format",
	} {
		if !strings.Contains("\n"+err.Error(), "\n"+field+": ") {
			t.Errorf("no fault about %s in:\n%v", field, err)
		}
	}
}

func TestCompleteFillsIn(t *testing.T) {
	c := config.Default()
	c.Data = "state"
	c.Bus.CredentialsFile = "/keys/web1/agent.creds"
	c.Host = "web1"
	got, err := c.Complete()
	if err != nil {
		t.Fatal(err)
	}
	if got.Bus.SignerFile != "/keys/web1/signer.pub" || !filepath.IsAbs(got.Data) {
		t.Errorf("signer %s, data %s", got.Bus.SignerFile, got.Data)
	}
}

func TestUploadLimit(t *testing.T) {
	tests := map[string]struct {
		want int
		ok   bool
	}{"": {0, true}, "500K": {500, true}, "10M": {10 << 10, true}, "1G": {1 << 20, true}, "0K": {0, false}, "10": {0, false}, "-1M": {0, false}}
	for text, test := range tests {
		t.Run(text, func(t *testing.T) {
			got, err := config.Borg{UploadLimit: text}.UploadKiB()
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("%d, %v; want %d, ok %v", got, err, test.want, test.ok)
			}
		})
	}
}

func TestBusAddresses(t *testing.T) {
	for name, test := range map[string]struct {
		urls []string
		ok   bool
	}{
		"TLS":          {[]string{"tls://a:4222", "nats://b:4222"}, true},
		"websocket":    {[]string{"wss://a:443", "ws://b"}, true},
		"both kinds":   {[]string{"tls://a:4222", "wss://b:443"}, false},
		"none":         {nil, false},
		"another kind": {[]string{"https://a"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			c.Host, c.Bus.URLs = "web1", test.urls
			if _, err := c.Complete(); (err == nil) != test.ok || (err != nil && !strings.Contains(err.Error(), "bus.urls")) {
				t.Errorf("error %v; want ok %v", err, test.ok)
			}
		})
	}
}
