// Package cli is the command line of borgfleet-agent: the daemon, and what an
// administrator asks it on the host itself.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Supervise is the argument with which the agent's binary is the supervisor of
// one borg process. main handles it before anything else.
const Supervise = "supervise"

// Exit codes of the contract.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 5 // not reachable or not allowed
)

// Streams are where a command writes.
type Streams struct {
	Out io.Writer
	Err io.Writer
}

type grammar struct {
	Run        runCommand        `cmd:"" help:"Run the agent."`
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
		return config.Config{}, codeError{ExitUsage, err}
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
		return config.Config{}, codeError{ExitUsage, fmt.Errorf("configuration: %w", err)}
	}
	return c, nil
}

// session is what a command gets to work with.
type session struct {
	Streams
	ctx    context.Context
	parser *kong.Kong
}

func (s *session) json(value any) error {
	encoder := json.NewEncoder(s.Out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// codeError ends the program with a code of its own.
type codeError struct {
	code int
	err  error
}

func (e codeError) Error() string { return e.err.Error() }
func (e codeError) Unwrap() error { return e.err }

// errSilent ends the program with code 1 when everything has been said.
var errSilent = errors.New("")

// Main runs a command and returns its exit code. ctx ends on a signal.
func Main(ctx context.Context, args []string, streams Streams) int {
	var root grammar
	exited, exitCode := false, 0
	parser, err := kong.New(&root,
		kong.Name("borgfleet-agent"),
		kong.Description("Runs borg on this host, as its borgfleet coordinator asks."),
		kong.Vars{"default_data": config.Default().Data, "default_config": config.DefaultFile},
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(code int) { exited, exitCode = true, code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return report(streams, err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited {
		return exitCode
	}
	if err != nil {
		return report(streams, codeError{ExitUsage, fmt.Errorf("%w (run borgfleet-agent --help)", err)})
	}
	return report(streams, parsed.Run(&session{Streams: streams, ctx: ctx, parser: parser}))
}

// report prints an error as one line on standard error, and returns the exit
// code that it stands for.
func report(streams Streams, err error) int {
	if err == nil {
		return ExitDone
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(streams.Err, "borgfleet-agent: "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
	}
	if coded, ok := errors.AsType[codeError](err); ok {
		return coded.code
	}
	if failure, ok := errors.AsType[*job.Failure](err); ok {
		switch failure.Code {
		case job.NotAllowed, job.PermissionDenied, job.Unavailable, job.HostUnreachable:
			return ExitUnreachable
		}
	}
	return ExitFailed
}

type versionCommand struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// Run prints the version.
func (c versionCommand) Run(s *session) error {
	if c.JSON {
		return s.json(build.Current())
	}
	_, err := fmt.Fprintln(s.Out, "borgfleet-agent", build.Current())
	return err
}

type superviseCommand struct {
	Dir string `arg:"" help:"Job directory."`
}

// Run refuses: main handles the only right call.
func (superviseCommand) Run() error {
	return codeError{ExitUsage, errors.New("supervise takes one job directory and nothing else")}
}
