// Package config reads the agent's configuration: defaults, then a strict YAML
// file, then flags, then validation that reports every fault with its place.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/settings"
)

// DefaultFile is read when no file is named; it may be absent.
const DefaultFile = "/etc/borgfleet/agent.yaml"

// Config is everything that can be configured. See [Default] for the defaults.
type Config struct {
	Host   string `yaml:"host"` // the name under which the coordinator knows this host; default: its host name
	Data   string `yaml:"data"` // state directory; nothing is written outside it
	Bus    Bus    `yaml:"bus"`
	Borg   Borg   `yaml:"borg"`
	Slots  int    `yaml:"slots"` // jobs that run at once
	Policy Policy `yaml:"policy"`
	Log    Log    `yaml:"log"`
}

// Bus is how the agent reaches its coordinator.
type Bus struct {
	URLs            []string `yaml:"urls"`
	CredentialsFile string   `yaml:"credentials_file"`
	SignerFile      string   `yaml:"signer_file"` // coordinator's public signing key; default: signer.pub beside the credentials
	CAFile          string   `yaml:"ca_file"`     // authority for tls:// URLs; empty: the system's
}

// Borg is how borg is run.
type Borg struct {
	Binary      string        `yaml:"binary"`
	Nice        int           `yaml:"nice"`         // -20 to 19
	IONice      string        `yaml:"ionice"`       // "best-effort:0" to ":7", "idle"; empty: unchanged
	UploadLimit string        `yaml:"upload_limit"` // "500K", "10M" a second; empty: none
	RSH         string        `yaml:"rsh"`          // the ssh command, with options; empty: plain ssh that asks nothing
	LockWait    time.Duration `yaml:"lock_wait"`    // for locks of writers that the coordinator does not know
}

// Policy is what this host lets the coordinator ask for.
type Policy struct {
	Kinds        []job.Kind `yaml:"kinds"`        // kinds of job that may run
	Read         []string   `yaml:"read"`         // directories below which paths may be backed up
	Restore      []string   `yaml:"restore"`      // directories below which files may be restored, and archives mounted
	Repositories []string   `yaml:"repositories"` // globs over a repository's name or location; "depot" is all that the coordinator keeps
	Hooks        string     `yaml:"hooks"`        // directory of the scripts that plans may name
	// ExtraOptions lets an admin give borg create options that borgfleet does
	// not know. Those that run programs or write files are refused all the same.
	ExtraOptions bool `yaml:"extra_options"`
}

// Log is what the agent says of itself, on standard error.
type Log struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error
	Format string `yaml:"format"` // text or json
}

// Default is the configuration without a file. Its host is empty, which
// [Config.Complete] fills in.
func Default() Config {
	return Config{
		Data:  "/var/lib/borgfleet-agent",
		Bus:   Bus{URLs: []string{"nats://127.0.0.1:4222"}, CredentialsFile: "/etc/borgfleet/agent.creds"},
		Borg:  Borg{Binary: "/usr/bin/borg", Nice: 10, IONice: "best-effort:7", LockWait: time.Minute},
		Slots: 1,
		Policy: Policy{
			Kinds: job.Kinds(), Read: []string{"/"}, Restore: []string{"/var/restore/borgfleet"},
			Repositories: []string{"*"}, Hooks: "/etc/borgfleet/hooks.d",
		},
		Log: Log{Level: "info", Format: "text"},
	}
}

// Load returns the defaults overlaid with the file at path. An empty path
// means [DefaultFile] if that exists. Unknown keys are errors that show the
// line. The result is not complete yet, since flags may come on top.
func Load(path string) (Config, error) {
	config := Default()
	err := settings.Load(path, DefaultFile, &config)
	return config, err
}

// Complete fills in what follows from other keys or from the machine, makes
// paths absolute, and validates. The error joins every fault, each with the
// path of its field.
func (c Config) Complete() (Config, error) {
	if c.Host == "" {
		if name, err := os.Hostname(); err == nil {
			c.Host, _, _ = strings.Cut(strings.ToLower(name), ".")
		}
	}
	if c.Bus.SignerFile == "" && c.Bus.CredentialsFile != "" {
		c.Bus.SignerFile = filepath.Join(filepath.Dir(c.Bus.CredentialsFile), "signer.pub")
	}
	for _, file := range []*string{&c.Data, &c.Bus.CredentialsFile, &c.Bus.SignerFile, &c.Bus.CAFile} {
		if *file == "" {
			continue
		}
		abs, err := filepath.Abs(*file)
		if err != nil {
			return Config{}, fmt.Errorf("make %s absolute: %w", *file, err)
		}
		*file = abs
	}
	return c, c.validate()
}
