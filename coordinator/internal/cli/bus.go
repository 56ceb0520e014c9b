package cli

import (
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/daemon"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/console"
)

type busCommands struct {
	Export busExport `cmd:"" help:"Write what a nats-server of your own needs to take the place of the embedded bus."`
}

type busExport struct {
	Config string   `help:"The coordinator's configuration file. Default: ${default_config}, if there." placeholder:"FILE"`
	Listen string   `help:"Listen address of the nats-server. Default: that of the embedded bus." placeholder:"HOST:PORT"`
	Names  []string `help:"Names and addresses under which it is reached; they stand in its certificate." name:"tls-names" placeholder:"NAME"`
	Force  bool     `help:"Write over an earlier export, for example so that revoked credentials are in it."`
	Dir    string   `arg:"" help:"Directory to write to; it will hold keys."`
}

// Help is the end of the command's help.
func (busExport) Help() string {
	return `For a fleet that has outgrown the embedded bus, or to give the bus a life of its own. Every host and every person keeps their credentials:

    borgfleet bus export /etc/borgfleet/bus >> /etc/borgfleet/coordinator.yaml
    systemctl stop borgfleet
    nats-server -c /etc/borgfleet/bus/nats-server.conf      # 2.14.3 or newer
    systemctl start borgfleet

Standard output is the part of coordinator.yaml that makes the coordinator use it; merge it by hand if the file has a part bus already. What serve was given as flags (--bus, --tls-names) is to be given here, too (--listen, --tls-names). Hosts find the new bus if it listens where the embedded one did, or under a name that leads to it. The server stores what it has not passed on yet in DIR/store.`
}

// exportedBus is what the coordinator has to be told, as JSON.
type exportedBus struct {
	Configuration         string              `json:"configuration"` // of nats-server
	URLs                  []string            `json:"urls"`
	CredentialsFile       string              `json:"credentials_file"`
	APICredentialsFile    string              `json:"api_credentials_file"`
	AgentsCredentialsFile string              `json:"agents_credentials_file"`
	SystemCredentialsFile string              `json:"system_credentials_file"`
	SigningKeyFile        string              `json:"signing_key_file"`
	OperatorKeys          map[bus.Role]string `json:"operator_keys"`
	CAFile                string              `json:"ca_file"`
}

// Run runs the command. It needs no coordinator: only its data directory.
func (c busExport) Run(s *session) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return console.Usage("%w", err)
	}
	override(&loaded.Data, s.globals.Data)
	override(&loaded.Bus.Listen, c.Listen)
	if len(c.Names) > 0 {
		loaded.TLS.Names = c.Names
	}
	if err := loaded.Validate(); err != nil {
		return console.Usage("configuration: %w", err)
	}
	external, err := daemon.ExportBus(loaded, c.Dir, c.Force, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	written := exportedBus{
		Configuration: filepath.Join(filepath.Dir(external.SigningKeyFile), "nats-server.conf"),
		URLs:          external.URLs, CredentialsFile: external.CredentialsFile, APICredentialsFile: external.APICredentialsFile,
		AgentsCredentialsFile: external.AgentsCredentialsFile, SystemCredentialsFile: external.SystemCredentialsFile,
		SigningKeyFile: external.SigningKeyFile, OperatorKeys: external.OperatorKeys, CAFile: external.CAFile,
	}
	return s.show(written, func() { written.print(s) })
}

// print prints the part of coordinator.yaml, in quotes that YAML reads as Go
// writes them.
func (e exportedBus) print(s *session) {
	s.printf("# For coordinator.yaml. The bus itself: nats-server -c %s\nbus:\n  external:\n    urls: [", e.Configuration)
	for i, url := range e.URLs {
		if i > 0 {
			s.printf(", ")
		}
		s.printf("%q", url)
	}
	s.printf("]\n")
	for _, line := range []struct{ key, value string }{
		{"credentials_file", e.CredentialsFile}, {"api_credentials_file", e.APICredentialsFile},
		{"agents_credentials_file", e.AgentsCredentialsFile}, {"system_credentials_file", e.SystemCredentialsFile},
		{"signing_key_file", e.SigningKeyFile}, {"ca_file", e.CAFile},
	} {
		if line.value != "" {
			s.printf("    %s: %q\n", line.key, line.value)
		}
	}
	s.printf("    operator_keys:\n")
	for _, role := range bus.Roles() {
		s.printf("      %s: %s\n", role, e.OperatorKeys[role])
	}
}
