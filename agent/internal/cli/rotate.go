package cli

import (
	"fmt"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
)

type rotateCommand struct {
	settings
	JSON bool `help:"Print JSON." name:"json"`
}

// Run changes the host's keys. A running agent goes on with the new ones.
func (c rotateCommand) Run(s *session) error {
	configuration, err := c.load()
	if err != nil {
		return err
	}
	trust, err := identity.Trust(configuration.Bus.CAFile)
	if err != nil {
		return err
	}
	public, err := identity.Rotation{
		Host: configuration.Host, URLs: configuration.Bus.URLs, TLS: trust,
		Credentials: configuration.Bus.CredentialsFile, Data: configuration.Data,
	}.Rotate(s.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.PrintJSON(struct {
			Host      string `json:"host"`
			PublicKey string `json:"public_key"`
		}{configuration.Host, public})
	}
	_, err = fmt.Fprintf(s.Out, "Host %s has new keys; its bus identity is %s. The old ones have ended.\n", configuration.Host, public)
	return err
}
