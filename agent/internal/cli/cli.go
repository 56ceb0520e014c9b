// Package cli is the command line of borgfleet-agent: the daemon, and what an
// administrator asks it on the host itself.
package cli

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/console"
)

// Supervise is the argument with which the agent's binary is the supervisor of
// one borg process. main handles it before anything else.
const Supervise = "supervise"

type grammar struct {
	Run        runCommand        `cmd:"" help:"Run the agent."`
	Enroll     enrollCommand     `cmd:"" help:"Make this host known to its coordinator, with a token from there."`
	Rotate     rotateCommand     `cmd:"" help:"Change all keys of this host; running jobs go on."`
	Doctor     doctorCommand     `cmd:"" help:"Check borg, paths, credentials and the bus, with a fix for what is wrong."`
	Status     statusCommand     `cmd:"" help:"Show what the running agent does, and what it has not told yet."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
	Completion completionCommand `cmd:"" help:"Print a shell completion script."`
	Supervise  superviseCommand  `cmd:"" hidden:"" help:"Watch over one borg process (used by the agent itself)."`
}

// settings are the flags that override agent.yaml.
type settings struct {
	Config      string   `help:"Configuration file. Default: ${default_config}, if it exists." type:"path" placeholder:"FILE"`
	Host        string   `help:"Name under which the coordinator knows this host." placeholder:"NAME"`
	Data        string   `help:"State directory. Default: ${default_data}." type:"path" placeholder:"DIR"`
	Bus         []string `help:"Address of the bus; may be repeated." placeholder:"URL"`
	Credentials string   `help:"Credentials file for the bus; the coordinator's signer.pub is expected beside it." type:"path" placeholder:"FILE"`
	LogLevel    string   `help:"trace, debug, info, warn or error." placeholder:"LEVEL"`
	LogFormat   string   `help:"text or json." placeholder:"FORMAT"`
}

// load returns the configuration: defaults, file, flags. A fault in it is a
// fault of whoever called.
func (s settings) load() (config.Config, error) {
	c, err := config.Load(s.Config)
	if err != nil {
		return config.Config{}, console.Usage("%w", err)
	}
	for flag, field := range map[*string]*string{
		&s.Host: &c.Host, &s.Data: &c.Data, &s.LogLevel: &c.Log.Level, &s.LogFormat: &c.Log.Format,
	} {
		if *flag != "" {
			*field = *flag
		}
	}
	if len(s.Bus) > 0 {
		c.Bus.URLs = s.Bus
	}
	if s.Credentials != "" {
		c.Bus.CredentialsFile, c.Bus.SignerFile = s.Credentials, ""
	}
	c, err = c.Complete()
	if err != nil {
		return config.Config{}, console.Usage("configuration: %w", err)
	}
	return c, nil
}

// session is what a command gets to work with.
type session struct {
	console.Streams
	ctx    context.Context
	parser *kong.Kong
}

// Main runs a command and returns its exit code. ctx ends on a signal.
func Main(ctx context.Context, args []string, streams console.Streams) int {
	program := console.Program{
		Name: "borgfleet-agent", Description: "Runs borg on this host, as its borgfleet coordinator asks.",
		Grammar: &grammar{}, Vars: map[string]string{"default_data": config.Default().Data, "default_config": config.DefaultFile},
		Streams: streams,
		Session: func(parser *kong.Kong) any { return &session{Streams: streams, ctx: ctx, parser: parser} },
	}
	return program.Main(args)
}

type versionCommand struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// Run prints the version.
func (c versionCommand) Run(s *session) error {
	if c.JSON {
		return s.PrintJSON(build.Current())
	}
	_, err := fmt.Fprintln(s.Out, "borgfleet-agent", build.Current())
	return err
}

type superviseCommand struct {
	Dir string `arg:"" help:"Job directory."`
}

// Run refuses: main handles the only right call.
func (superviseCommand) Run() error {
	return console.Usage("supervise takes one job directory and nothing else")
}

type completionCommand struct{ console.Completion }

// Run prints a script that completes commands and flags.
func (c completionCommand) Run(s *session) error {
	_, err := fmt.Fprint(s.Out, c.Script(s.parser))
	return err
}
