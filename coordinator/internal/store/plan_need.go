package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// PlannedError is returned when plans name what is to go.
type PlannedError struct {
	Plans []string // their names, sorted
}

// Error implements error.
func (e *PlannedError) Error() string { return "is named by plans: " + strings.Join(e.Plans, ", ") }

// RequireUnplanned is a precondition: a [*PlannedError] if a plan names the host
// (when given) or the repository (when given). A plan that finds its hosts by
// labels names none.
func RequireUnplanned(host, repository string) Change {
	return unplanned{host: host, repository: repository}
}

type unplanned struct{ host, repository string }

func (c unplanned) apply(tx *transaction) error {
	var naming []string
	err := tx.bucket(bucketPlans).ForEach(func(key, value []byte) error {
		if !c.mayBeIn(value) {
			return nil
		}
		var p fleet.PlanSpec
		if err := json.Unmarshal(value, &p); err != nil {
			return fmt.Errorf("read plan %s: %w", key, err)
		}
		if c.names(p) {
			naming = append(naming, string(key))
		}
		return nil
	})
	if err != nil || len(naming) == 0 {
		return err
	}
	return &PlannedError{Plans: naming}
}

// mayBeIn spares reading plans in which the names are not even to be found.
func (c unplanned) mayBeIn(value []byte) bool {
	return c.host != "" && bytes.Contains(value, []byte(`"`+c.host+`"`)) ||
		c.repository != "" && bytes.Contains(value, []byte(`"`+c.repository+`"`))
}

func (c unplanned) names(p fleet.PlanSpec) bool {
	test := p.RestoreTest != nil && p.RestoreTest.Host == c.host
	return c.host != "" && (test || slices.Contains(p.Hosts, c.host)) || c.repository != "" && slices.Contains(p.Repositories, c.repository)
}
