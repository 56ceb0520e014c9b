package cli

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/agent/internal/daemon"
	"github.com/borgfleet/borgfleet/shared/console"
)

// The agent shares its host with what the host is for: it collects garbage
// twice as eagerly as Go does by default, and harder above the limit.
const (
	gcPercent   = 50
	memoryLimit = 64 << 20
)

type runCommand struct {
	settings
}

// Run runs the daemon until a signal comes.
func (c runCommand) Run(s *session) error {
	configuration, err := c.load()
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the agent's own binary: %w", err)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	return daemon.Run(s.ctx, daemon.Options{
		Config: configuration, Supervisor: []string{binary, Supervise}, Logger: newLogger(configuration.Log, s.Streams),
	})
}

func newLogger(c config.Log, streams console.Streams) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "agent", Level: hclog.LevelFromString(c.Level), JSONFormat: c.Format == "json", Output: streams.Err,
	})
}
