package plan

import (
	"bytes"
	"encoding/json"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// same reports whether two plans say the same: what is empty and what is left out
// are one.
func same(a, b fleet.PlanSpec) bool {
	one, err := json.Marshal(a)
	if err != nil {
		return false
	}
	other, err := json.Marshal(b)
	return err == nil && bytes.Equal(one, other)
}
