package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/daemon"
	"github.com/borgfleet/borgfleet/shared/console"
)

// Supervise is the argument with which our own binary is the supervisor of one
// borg process, for the care of the depot. main handles it before anything else.
const Supervise = "supervise"

type superviseCommand struct {
	Dir string `arg:"" help:"Job directory."`
}

// Run refuses: main handles the only right call.
func (superviseCommand) Run() error {
	return console.Usage("supervise takes one job directory and nothing else")
}

type serveCommand struct {
	Config    string   `help:"Configuration file. Default: ${default_config}, if there." placeholder:"FILE"`
	HTTP      string   `help:"Listen address of the status page and API." name:"http" placeholder:"HOST:PORT"`
	Bus       string   `help:"Listen address of the bus." placeholder:"HOST:PORT"`
	Depot     string   `help:"Listen address of the depot, the repositories that are kept here." placeholder:"HOST:PORT"`
	Names     []string `help:"Names and addresses under which this machine is reached; they stand in its certificate." name:"tls-names" placeholder:"NAME"`
	LogLevel  string   `help:"trace, debug, info, warn or error." placeholder:"LEVEL"`
	LogFormat string   `help:"text or json." placeholder:"FORMAT"`
}

// Run implements the serve command: the configuration, overridden by flags,
// then the daemon until a signal.
func (c *serveCommand) Run(s *session) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return console.Usage("%w", err)
	}
	override(&loaded.HTTP.Listen, c.HTTP)
	override(&loaded.Bus.Listen, c.Bus)
	override(&loaded.Depot.Listen, c.Depot)
	if len(c.Names) > 0 {
		loaded.TLS.Names = c.Names
	}
	override(&loaded.Log.Level, c.LogLevel)
	override(&loaded.Log.Format, c.LogFormat)
	override(&loaded.Data, s.globals.Data)
	if err := loaded.Validate(); err != nil {
		return console.Usage("configuration: %w", err)
	}
	logger := hclog.New(&hclog.LoggerOptions{
		Name: "borgfleet", Level: hclog.LevelFromString(loaded.Log.Level),
		JSONFormat: loaded.Log.Format == "json", Output: s.Err,
	})
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own binary: %w", err)
	}
	err = daemon.Run(s.ctx, daemon.Options{Config: loaded, Supervisor: []string{binary, Supervise}, Out: s.Out, Logger: logger})
	if err != nil && errors.Is(err, os.ErrPermission) {
		return console.Exit{Code: console.ExitUnreachable, Err: err}
	}
	return err
}

func override(target *string, value string) {
	if value != "" {
		*target = value
	}
}
