// Package config reads the coordinator's configuration: defaults, then a
// strict YAML file, then flags, then validation that reports every fault with
// its place.
package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/settings"
)

// DefaultFile is read when no file is named; it may be absent.
const DefaultFile = "/etc/borgfleet/coordinator.yaml"

// Config is everything that can be configured. See [Default] for the defaults.
type Config struct {
	Data    string  `yaml:"data"` // state directory; nothing is written outside it
	HTTP    HTTP    `yaml:"http"`
	Bus     Bus     `yaml:"bus"`
	Depot   Depot   `yaml:"depot"`
	TLS     TLS     `yaml:"tls"`
	OIDC    OIDC    `yaml:"oidc"`
	Limits  Limits  `yaml:"limits"`
	History History `yaml:"history"`
	Log     Log     `yaml:"log"`
	Deadman Deadman `yaml:"deadman"`
}

// HTTP is the status page and API.
type HTTP struct {
	Listen string `yaml:"listen"` // host:port; port 0 picks a free one
	URL    string `yaml:"url"`    // how people reach it; empty: from Listen
}

// Bus is the NATS server that agents and operators connect to.
type Bus struct {
	Listen    string   `yaml:"listen"`    // of the embedded server
	URL       string   `yaml:"url"`       // how agents reach it; empty: from TLS.Names or Listen
	Websocket string   `yaml:"websocket"` // host:port for NATS over websockets; empty: none
	External  External `yaml:"external"`
}

// External is a NATS cluster of your own, used instead of the embedded server
// when URLs are given.
type External struct {
	URLs                  []string            `yaml:"urls"`
	CredentialsFile       string              `yaml:"credentials_file"`        // a user of the account FLEET that may use JetStream
	APICredentialsFile    string              `yaml:"api_credentials_file"`    // optional: a user of FLEET without that right, to serve operators
	AgentsCredentialsFile string              `yaml:"agents_credentials_file"` // a user of the account AGENTS
	SystemCredentialsFile string              `yaml:"system_credentials_file"` // optional: presence at once
	SigningKeyFile        string              `yaml:"signing_key_file"`        // scoped signing key that mints agents
	OperatorKeys          map[bus.Role]string `yaml:"operator_keys"`           // public scoped signing keys of operators, by role
	CAFile                string              `yaml:"ca_file"`                 // PEM, who signed the cluster's certificates; empty: an authority that every system trusts
}

// Depot is the SSH endpoint for repositories that are kept here.
type Depot struct {
	Listen  string `yaml:"listen"`  // host:port; port 0 picks a free one; empty: there is no depot
	Path    string `yaml:"path"`    // directory of the repositories; empty: depot in the data directory
	Address string `yaml:"address"` // host:port as hosts reach it; empty: from TLS.Names and Listen
	Borg    string `yaml:"borg"`    // path of borg, or a name to look up
}

// TLS says under which names the coordinator is reached, and whose certificate
// it shows: one of its own authority, or a given one.
type TLS struct {
	Names           []string `yaml:"names"`            // DNS names and IP addresses; the first is what agents are told
	CertificateFile string   `yaml:"certificate_file"` // PEM, with its chain; empty: of the coordinator's own authority
	KeyFile         string   `yaml:"key_file"`         // PEM, of the certificate
	CAFile          string   `yaml:"ca_file"`          // PEM, who signed it; empty: an authority that every system trusts
}

// OIDC lets people sign in with an OpenID Connect provider.
type OIDC struct {
	Issuer           string              `yaml:"issuer"` // URL; empty: passwords only
	ClientID         string              `yaml:"client_id"`
	ClientSecretFile string              `yaml:"client_secret_file"` // mode 0600; the secret is taken from nowhere else
	NameClaim        string              `yaml:"name_claim"`         // what a person is called here
	RoleClaim        string              `yaml:"role_claim"`         // the person's groups: a list, or one
	Roles            map[string]bus.Role `yaml:"roles"`              // role by group
}

// Enabled reports whether there is a provider.
func (o OIDC) Enabled() bool { return o.Issuer != "" }

// Limits bounds what runs at once, and how long things may take.
type Limits struct {
	Running  int      `yaml:"running"`   // jobs in the whole fleet
	PerHost  int      `yaml:"per_host"`  // jobs on one host, also bounded by the agent's slots
	PerStore int      `yaml:"per_store"` // jobs in the repositories of one server, or of the depot
	Expire   Duration `yaml:"expire"`    // in which a host must have accepted a job; 0: no limit
	Timeout  Duration `yaml:"timeout"`   // that an attempt of a job may run; 0: no limit
	Offline  Duration `yaml:"offline"`   // that a host may be away before its jobs are given up; 0: no limit
}

// History says how long finished jobs are kept; whichever bound is met first.
type History struct {
	Keep Duration `yaml:"keep"`
	Jobs int      `yaml:"jobs"`
}

// Log is what the coordinator says of itself, on standard error.
type Log struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error
	Format string `yaml:"format"` // text or json
}

// Deadman is an address that is pinged as long as the coordinator works, so that
// whoever listens there notices when it does not.
type Deadman struct {
	URL     string   `yaml:"url"`      // empty, and no file: nothing is pinged
	URLFile string   `yaml:"url_file"` // holds the address, and nothing else; mode 0600
	Every   Duration `yaml:"every"`
}

// Duration is a time.Duration that also takes days, as in 400d.
type Duration time.Duration

var days = regexp.MustCompile(`^([0-9]{1,5})d$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	if match := days.FindSubmatch(text); match != nil {
		n, err := strconv.Atoi(string(match[1]))
		*d = Duration(time.Duration(n) * 24 * time.Hour)
		return err
	}
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write it like 90m, 36h or 400d", text)
	}
	*d = Duration(parsed)
	return nil
}

const hour = Duration(time.Hour)

// Default is the configuration without a file.
func Default() Config {
	return Config{
		Data:    "/var/lib/borgfleet",
		HTTP:    HTTP{Listen: "127.0.0.1:8440"},
		Bus:     Bus{Listen: "127.0.0.1:4222"},
		Depot:   Depot{Listen: "127.0.0.1:2222", Borg: "borg"},
		TLS:     TLS{Names: []string{}},
		OIDC:    OIDC{NameClaim: "preferred_username", RoleClaim: "groups", Roles: map[string]bus.Role{}},
		Limits:  Limits{Running: 50, PerHost: 1, PerStore: 4, Expire: 24 * hour, Offline: 7 * 24 * hour},
		History: History{Keep: 400 * 24 * hour, Jobs: 1_000_000},
		Log:     Log{Level: "info", Format: "text"},
		Deadman: Deadman{Every: Duration(time.Minute)},
	}
}

// Load returns the defaults overlaid with the file at path. An empty path
// means [DefaultFile] if that exists. Unknown keys are errors that show the
// line. The result is not validated yet, since flags may come on top.
func Load(path string) (Config, error) {
	config := Default()
	err := settings.Load(path, DefaultFile, &config)
	return config, err
}
