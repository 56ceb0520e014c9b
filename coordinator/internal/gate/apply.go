package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Manifests makes everything match a text, and writes it. Safe for concurrent
// use.
type Manifests interface {
	Apply(ctx context.Context, by fleet.Actor, asked fleet.Manifest) (fleet.ManifestOutcome, error)
	Export(ctx context.Context) (string, error)
}

// Manifests returns manifests behind the gate.
func (g *Gate) Manifests(inner Manifests) Manifests { return manifests{inner, g} }

type manifests struct {
	inner Manifests
	gate  *Gate
}

// Apply needs the role also for a dry run, as it reads all that would be changed.
func (m manifests) Apply(ctx context.Context, by fleet.Actor, asked fleet.Manifest) (fleet.ManifestOutcome, error) {
	if err := m.gate.pass(by, "manifest.apply", "manifest"); err != nil {
		return fleet.ManifestOutcome{}, err
	}
	return m.inner.Apply(ctx, by, asked)
}

func (m manifests) Export(ctx context.Context) (string, error) { return m.inner.Export(ctx) }
