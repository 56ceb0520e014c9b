package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/authority"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Files of an exported bus.
const (
	exportedServer = "server.pem" // key and certificate with its chain
	exportedCA     = "ca.pem"
)

// ExportBus writes into target what a stand-alone nats-server needs to take the
// place of the embedded bus, listening on c.Bus.Listen, and returns what the
// coordinator has to be told about it. It needs no running coordinator, and
// minds none. force writes over an earlier export. Faults that an operator can
// mend are *job.Failure.
func ExportBus(c config.Config, target string, force bool, logger hclog.Logger) (config.External, error) {
	target, err := filepath.Abs(target)
	if err != nil {
		return config.External{}, fmt.Errorf("directory of the exported bus: %w", err)
	}
	_, port, err := net.SplitHostPort(c.Bus.Listen)
	if err != nil || port == "0" {
		return config.External{}, job.Invalid("bus.listen", "%q is no address with a fixed port", c.Bus.Listen).
			WithHint("give the one that agents know with --listen, for example 0.0.0.0:4222")
	}
	c.Bus.External = config.External{}
	export := broker.Export{
		Dir: filepath.Join(c.Data, busDir), Target: target, Listen: c.Bus.Listen, Websocket: c.Bus.Websocket,
		URLs: c.AgentURLs("tls://" + c.Bus.Listen), CertificateFile: filepath.Join(target, exportedServer), Force: force,
	}
	export.KeyFile = export.CertificateFile
	if c.TLS.CertificateFile != "" {
		export.CertificateFile, export.KeyFile = c.TLS.CertificateFile, c.TLS.KeyFile
	}
	lent, err := export.Write()
	if err != nil {
		return config.External{}, err
	}
	external := config.External{
		URLs: lent.URLs, CredentialsFile: lent.CredentialsFile, APICredentialsFile: lent.APICredentialsFile,
		AgentsCredentialsFile: lent.AgentsCredentialsFile, SystemCredentialsFile: lent.SystemCredentialsFile,
		SigningKeyFile: lent.SigningKeyFile, OperatorKeys: lent.OperatorKeys, CAFile: c.TLS.CAFile,
	}
	if c.TLS.CertificateFile == "" {
		external.CAFile = filepath.Join(target, exportedCA)
		err = exportCertificate(c, target, logger)
	}
	return external, err
}

// exportCertificate gives the stand-alone server a certificate of the
// coordinator's own authority, which every host trusts already.
func exportCertificate(c config.Config, target string, logger hclog.Logger) error {
	server, ca, err := authority.IssueElsewhere(authority.Options{Dir: filepath.Join(c.Data, tlsDir), Names: c.Names(), Logger: logger})
	if err != nil {
		return err
	}
	write := func(name string, data []byte, mode os.FileMode) error {
		return renameio.WriteFile(filepath.Join(target, name), data, mode, renameio.WithStaticPermissions(mode))
	}
	if err := errors.Join(write(exportedServer, server, 0o600), write(exportedCA, ca, 0o644)); err != nil {
		return fmt.Errorf("write the bus's certificate: %w", err)
	}
	return nil
}
