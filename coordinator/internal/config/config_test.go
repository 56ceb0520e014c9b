package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/shared/bus"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "coordinator.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSampleIsTheDefault(t *testing.T) {
	got, err := config.Load("../../../deploy/coordinator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), got); diff != "" {
		t.Errorf("the sample differs from the defaults (-default +sample):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the sample is not valid: %v", err)
	}
}

func TestLoadOverlaysTheDefaults(t *testing.T) {
	got, err := config.Load(write(t, "data: /srv/bf\nhistory: {keep: 36h}\nlimits: {running: 7}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Data, want.Limits.Running, want.History.Keep = "/srv/bf", 7, config.Duration(36*time.Hour)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	got, err := config.Load(write(t, "# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":     {"limits:\n  runing: 3\n", "runing"},
		"wrong type":      {"limits: {running: many}\n", "running"},
		"not yaml":        {"data: [\n", "coordinator.yaml"},
		"bad duration":    {"history: {keep: soon}\n", "soon"},
		"unknown section": {"web: {}\n", "web"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not name %q", err, c.want)
			}
		})
	}
	if _, err := config.Load(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("a named file that is absent was accepted")
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	c := config.Default()
	c.Data, c.HTTP.Listen, c.HTTP.URL = "relative", "no port", "ftp://x"
	c.Bus.Listen, c.Bus.URL, c.Bus.Websocket = "127.0.0.1:x", "backup:4222", "a b:1"
	c.Depot = config.Depot{Listen: "127.0.0.1:x", Path: "relative", Address: ":2222"}
	c.TLS = config.TLS{Names: []string{"good.example.net", "*.example.net"}, CertificateFile: "relative.pem", CAFile: "ca.pem"}
	c.OIDC.Issuer, c.OIDC.NameClaim, c.OIDC.RoleClaim = "http://login.example.net", "", ""
	c.OIDC.Roles = map[string]bus.Role{"staff": "root", "admins": bus.Admin}
	c.Limits.Running, c.Limits.PerHost, c.Limits.PerStore, c.Log.Level, c.Log.Format, c.History.Keep, c.History.Jobs = 0, 0, 0, "loud", "xml", 0, 0
	err := c.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	var fields []string
	for line := range strings.Lines(err.Error()) {
		field, _, _ := strings.Cut(line, ": ")
		fields = append(fields, field)
	}
	slices.Sort(fields)
	want := []string{
		"bus.listen", "bus.url", "bus.websocket", "data", "depot.address", "depot.borg", "depot.listen", "depot.path", "history.jobs", "history.keep", "http.listen", "http.url",
		"limits.per_host", "limits.per_store", "limits.running", "log.format", "log.level",
		"oidc.client_id", "oidc.client_secret_file", "oidc.issuer", "oidc.name_claim", "oidc.role_claim", "oidc.roles.staff",
		"tls.ca_file", "tls.certificate_file", "tls.key_file", "tls.names[1]",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("%s\n%v", diff, err)
	}
}

func TestValidateAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"every address":     `{http: {listen: ":8440"}, bus: {listen: "0.0.0.0:4222", websocket: "[::]:4223"}}`,
		"one address":       `{http: {listen: "192.0.2.7:443", url: "https://backup.example.net/"}, bus: {listen: "backup.example.net:4222", url: "wss://backup.example.net"}}`,
		"a certificate":     `{tls: {names: [backup.example.net, 192.0.2.7, "2001:db8::7"], certificate_file: /etc/c.pem, key_file: /etc/k.pem, ca_file: /etc/ca.pem}}`,
		"a provider":        `{oidc: {issuer: "https://login.example.net/realms/staff", client_id: x, client_secret_file: /etc/s, roles: {admins: admin, staff: viewer, ops: operator}}}`,
		"no depot":          `{depot: {listen: "", path: ignored}}`,
		"a depot":           `{depot: {listen: ":2222", path: /srv/depot, address: "depot.example.net:22", borg: /opt/borg}}`,
		"no limits":         `{limits: {expire: 0, timeout: 0s, offline: 0d}}`,
		"short limits":      `{limits: {expire: 1s, timeout: 90m, offline: 2d}}`,
		"a dead man":        `{deadman: {url: "https://hc.example.net/abc", every: 30s}}`,
		"a dead man's file": `{deadman: {url_file: /etc/borgfleet/deadman}}`,
		"a local provider":  `{oidc: {issuer: "http://127.0.0.1:9000", client_id: x, client_secret_file: /etc/s}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := config.Load(write(t, text))
			if err == nil {
				err = c.Validate()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"key without certificate": {`{tls: {key_file: /k}}`, "tls.certificate_file: is needed with tls.key_file"},
		"CA alone":                {`{tls: {ca_file: /ca}}`, "tls.certificate_file: is needed with tls.ca_file"},
		"certificate without key": {`{tls: {certificate_file: /c}}`, "tls.key_file: is needed with tls.certificate_file"},
		"client without provider": {`{oidc: {client_id: x}}`, "oidc.issuer: is needed with the other keys of oidc"},
		"roles without provider":  {`{oidc: {roles: {a: admin}}}`, "oidc.issuer: is needed with the other keys of oidc"},
		"password in a URL":       {`{bus: {url: "tls://user:secret@host:4222"}}`, "bus.url: "},
		"a depot nowhere":         {`{depot: {address: "0.0.0.0:2222"}}`, "depot.address: "},
		"a depot without a port":  {`{depot: {address: "depot.example.net"}}`, "depot.address: "},
		"a negative limit":        {`{limits: {expire: -1h}}`, "limits.expire: must be between 1s and 365d"},
		"a limit of no time":      {`{limits: {offline: 5ms}}`, "limits.offline: must be between 1s and 365d"},
		"a limit of years":        {`{limits: {timeout: 31d}}`, "limits.timeout: must be between 1s and 30d"},
		"a dead man twice":        {`{deadman: {url: "https://a.example.net", url_file: /f}}`, "deadman.url_file: "},
		"a dead man nowhere":      {`{deadman: {url: "hc.example.net/secret"}}`, "deadman.url: not a URL"},
		"a dead man in haste":     {`{deadman: {every: 10ms}}`, "deadman.every: "},
		"a big port":              {`{http: {listen: ":65536"}}`, "http.listen: "},
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := config.Load(write(t, c.text))
			if err != nil {
				t.Fatal(err)
			}
			if err := loaded.Validate(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %q alone", err, c.want)
			}
		})
	}
}

func TestClientSecretIsTakenFromAFileOnly(t *testing.T) {
	if _, err := config.Load(write(t, "oidc: {client_secret: x}\n")); err == nil {
		t.Error("a secret in the configuration was accepted")
	}
}

func TestExternalBusNeedsItsFiles(t *testing.T) {
	c := config.Default()
	c.Bus.External.URLs = []string{"nats://127.0.0.1:4223"}
	c.Bus.Listen, c.Bus.Websocket = "ignored", "ignored"
	err := c.Validate()
	if err == nil || !strings.Contains(err.Error(), "bus.external.signing_key_file") || strings.Contains(err.Error(), "ignored") {
		t.Errorf("unexpected: %v", err)
	}
}
