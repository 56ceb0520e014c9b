package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Ledger is the stored audit. Safe for concurrent use.
type Ledger interface {
	Audit(filter fleet.AuditFilter) (fleet.AuditPage, error)
	VerifyAudit(ctx context.Context) (fleet.AuditProof, error)
}

// Audit is the audit behind the gate. Who asks is in the context.
type Audit struct {
	ledger Ledger
	gate   *Gate
}

// Audit returns the audit behind the gate.
func (g *Gate) Audit(ledger Ledger) Audit { return Audit{ledger, g} }

// Audit returns one page of the audit, newest first.
func (a Audit) Audit(ctx context.Context, filter fleet.AuditFilter) (fleet.AuditPage, error) {
	if err := a.gate.passReader(ctx, "audit.read", ""); err != nil {
		return fleet.AuditPage{}, err
	}
	return a.ledger.Audit(filter)
}

// VerifyAudit checks the audit's chain.
func (a Audit) VerifyAudit(ctx context.Context) (fleet.AuditProof, error) {
	if err := a.gate.passReader(ctx, "audit.verify", ""); err != nil {
		return fleet.AuditProof{}, err
	}
	return a.ledger.VerifyAudit(ctx)
}
