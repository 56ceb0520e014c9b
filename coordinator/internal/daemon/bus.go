package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// startBroker starts the bus, or joins the one that there is.
func (d *daemon) startBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startupPatience)
	defer cancel()
	options := broker.Options{
		Dir: d.path(busDir), Listen: d.config.Bus.Listen, Websocket: d.config.Bus.Websocket, TLS: d.authority.ServerConfig(), Logger: d.logger,
	}
	var err error
	if d.busCA, err = d.readBusCA(); err != nil {
		return err
	}
	if len(d.config.Bus.External.URLs) > 0 {
		options.External = d.external()
	}
	started, err := broker.Start(ctx, options)
	if err != nil {
		return err
	}
	d.broker = started
	d.onTeardown(started.Close)
	if options.External != nil {
		return nil
	}
	return started.WriteOperatorCredentials(d.path(operatorFile), "local", bus.Admin)
}

func (d *daemon) external() *broker.External {
	e := d.config.Bus.External
	external := &broker.External{
		URLs: e.URLs, CredentialsFile: e.CredentialsFile, APICredentialsFile: e.APICredentialsFile,
		AgentsCredentialsFile: e.AgentsCredentialsFile, SystemCredentialsFile: e.SystemCredentialsFile,
		SigningKeyFile: e.SigningKeyFile, OperatorKeys: e.OperatorKeys,
	}
	if d.busCA != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(d.busCA) // it has one: readBusCA looked
		external.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return external
}

// readBusCA returns the authority (PEM) of the bus's certificate: our own, or
// that of an external cluster; nil when everybody's system trusts it.
func (d *daemon) readBusCA() ([]byte, error) {
	path := d.config.Bus.External.CAFile
	switch {
	case len(d.config.Bus.External.URLs) == 0:
		return d.authority.CA(), nil
	case path == "":
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read bus.external.ca_file: %w", err)
	}
	if block, _ := pem.Decode(data); block == nil || block.Type != "CERTIFICATE" || !x509.NewCertPool().AppendCertsFromPEM(data) {
		return nil, job.Invalid("bus.external.ca_file", "%s holds no certificate", path).WithHint("it must be a PEM file, beginning with -----BEGIN CERTIFICATE-----")
	}
	return data, nil
}

// busFingerprint is the SHA-256 of the bus's authority; zero when there is none.
func (d *daemon) busFingerprint() [sha256.Size]byte {
	block, _ := pem.Decode(d.busCA)
	if block == nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(block.Bytes)
}
