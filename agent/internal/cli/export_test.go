package cli

import (
	"context"
	"io"
)

// UnitText is the unit that enrolment installs.
var UnitText = unitText

// StartService starts the agent with a service manager of the test's own.
func StartService(ctx context.Context, out io.Writer, units []string, control, binary string) error {
	s := service{units: units, control: control, ourselves: func() (string, error) { return binary, nil }}
	return s.start(ctx, out)
}
