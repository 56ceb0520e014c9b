package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// State copies the coordinator's own state. Safe for concurrent use.
type State interface {
	BackupState(ctx context.Context, by fleet.Actor, asked fleet.StateBackup) (*fleet.StateCopy, error)
}

// State returns the coordinator's own state behind the gate.
func (g *Gate) State(inner State) State { return ownState{inner, g} }

type ownState struct {
	inner State
	gate  *Gate
}

func (s ownState) BackupState(ctx context.Context, by fleet.Actor, asked fleet.StateBackup) (*fleet.StateCopy, error) {
	if err := s.gate.pass(by, "state.backup", "state"); err != nil {
		return nil, err
	}
	return s.inner.BackupState(ctx, by, asked)
}
