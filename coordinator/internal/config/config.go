// Package config reads the coordinator's configuration: defaults, then a
// strict YAML file, then flags, then validation that reports every fault with
// its place.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/shared/settings"
)

// DefaultFile is read when no file is named; it may be absent.
const DefaultFile = "/etc/borgfleet/coordinator.yaml"

// Config is everything that can be configured. See [Default] for the defaults.
type Config struct {
	Data    string  `yaml:"data"` // state directory; nothing is written outside it
	HTTP    HTTP    `yaml:"http"`
	Bus     Bus     `yaml:"bus"`
	Limits  Limits  `yaml:"limits"`
	History History `yaml:"history"`
	Log     Log     `yaml:"log"`
}

// HTTP is the status page and API.
type HTTP struct {
	Listen string `yaml:"listen"` // host:port; port 0 picks a free one
	URL    string `yaml:"url"`    // how people reach it; empty: from Listen
}

// Names returns the host names, besides loopback ones, under which people reach
// the page.
func (h HTTP) Names() []string {
	parsed, err := url.Parse(h.URL)
	if err != nil || parsed.Hostname() == "" {
		return nil
	}
	return []string{parsed.Hostname()}
}

// Bus is the NATS server that agents and operators connect to.
type Bus struct {
	Listen   string   `yaml:"listen"` // of the embedded server
	External External `yaml:"external"`
}

// External is a NATS cluster of your own, used instead of the embedded server
// when URLs are given.
type External struct {
	URLs                  []string `yaml:"urls"`
	CredentialsFile       string   `yaml:"credentials_file"`        // a user of the account FLEET that may use JetStream
	APICredentialsFile    string   `yaml:"api_credentials_file"`    // optional: a user of FLEET without that right, to serve operators
	AgentsCredentialsFile string   `yaml:"agents_credentials_file"` // a user of the account AGENTS
	SystemCredentialsFile string   `yaml:"system_credentials_file"` // optional: presence at once
	SigningKeyFile        string   `yaml:"signing_key_file"`        // scoped signing key that mints agents
}

// Limits bounds what runs at once.
type Limits struct {
	Running int `yaml:"running"`  // jobs in the whole fleet
	PerHost int `yaml:"per_host"` // jobs on one host, also bounded by the agent's slots
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

// Default is the configuration without a file.
func Default() Config {
	return Config{
		Data:    "/var/lib/borgfleet",
		HTTP:    HTTP{Listen: "127.0.0.1:8440"},
		Bus:     Bus{Listen: "127.0.0.1:4222"},
		Limits:  Limits{Running: 50, PerHost: 1},
		History: History{Keep: Duration(400 * 24 * time.Hour), Jobs: 1_000_000},
		Log:     Log{Level: "info", Format: "text"},
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

// Validate returns nil, or every fault joined, each with its field's path.
func (c Config) Validate() error {
	faults := []error{
		absolute("data", c.Data),
		httpURL("http.url", c.HTTP.URL),
		loopback("http.listen", c.HTTP.Listen),
		oneOf("log.level", c.Log.Level, "trace", "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"),
		positive("limits.running", c.Limits.Running), positive("limits.per_host", c.Limits.PerHost),
		positive("history.jobs", c.History.Jobs),
	}
	if time.Duration(c.History.Keep) < time.Hour {
		faults = append(faults, errors.New("history.keep: must be at least 1h"))
	}
	if len(c.Bus.External.URLs) == 0 {
		faults = append(faults, loopback("bus.listen", c.Bus.Listen))
	} else {
		faults = append(faults, c.Bus.External.validate()...)
	}
	return errors.Join(faults...)
}

func (e External) validate() []error {
	var faults []error
	for field, value := range map[string]string{
		"credentials_file": e.CredentialsFile, "agents_credentials_file": e.AgentsCredentialsFile, "signing_key_file": e.SigningKeyFile,
	} {
		if value == "" {
			faults = append(faults, fmt.Errorf("bus.external.%s: is needed with bus.external.urls", field))
		}
	}
	return faults
}

func absolute(field, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: %q is not an absolute path", field, path)
	}
	return nil
}

func httpURL(field, text string) error {
	parsed, err := url.Parse(text)
	if text != "" && (err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https") {
		return fmt.Errorf("%s: %q is not a URL such as https://backup.example.net:8440", field, text)
	}
	return nil
}

// loopback accepts only loopback addresses: until hosts and people have
// identities with TLS, nothing listens for strangers.
func loopback(field, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port", field, listen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s: %q is not a port", field, port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: %s is not a loopback address; this version listens on loopback only, for example 127.0.0.1:%s", field, listen, port)
	}
	return nil
}

func oneOf(field, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is not one of %v", field, value, allowed)
}

func positive(field string, n int) error {
	if n < 1 {
		return fmt.Errorf("%s: must be at least 1", field)
	}
	return nil
}
