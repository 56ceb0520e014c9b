// Package cli is the command line: `borgfleet serve` runs the coordinator,
// every other command is an operator's and speaks to the HTTP API.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Exit codes (contract.md).
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitWarning     = 3 // the job ended with warnings
	ExitJobFailed   = 4 // the job failed or was cancelled
	ExitUnreachable = 5 // not reachable or not allowed
)

// Streams are the three standard streams.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Globals are the flags that every command has.
type Globals struct {
	URL  string `help:"Coordinator to speak to. Default: the one whose data directory is --data." env:"BORGFLEET_URL" placeholder:"URL"`
	Data string `help:"Data directory of the coordinator. Default: ${default_data}." type:"path" placeholder:"DIR"`
	JSON bool   `help:"Print JSON, for scripts." name:"json"`

	Token string `kong:"-"` // from BORGFLEET_TOKEN only: not a flag, since arguments are public
}

type grammar struct {
	Globals

	Serve      serveCommand      `cmd:"" help:"Run the coordinator."`
	Status     statusCommand     `cmd:"" help:"Show hosts, running jobs, and what needs attention."`
	Backup     backupCommand     `cmd:"" help:"Back up paths of a host now, and watch."`
	Host       hostCommands      `cmd:"" help:"Hosts: the machines with data."`
	Repo       repoCommands      `cmd:"" help:"Repositories: where archives are kept."`
	Archive    archiveCommands   `cmd:"" help:"Archives in a repository."`
	Job        jobCommands       `cmd:"" help:"Jobs: submit, list, watch, cancel, retry."`
	Completion completionCommand `cmd:"" help:"Print a shell completion script."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

// session is what a command gets to work with.
type session struct {
	Streams
	ctx     context.Context
	globals *Globals
	kong    *kong.Kong
}

// codeError ends the program with a code; its message may be empty.
type codeError struct {
	code    int
	message string
}

func (e codeError) Error() string { return e.message }

// Main runs the command line and returns its exit code. ctx ends on a signal.
func Main(ctx context.Context, args []string, streams Streams) int {
	var root grammar
	exited, exitCode := false, 0
	parser, err := kong.New(&root,
		kong.Name("borgfleet"),
		kong.Description("Backups of many hosts with borg: the coordinator, and its operator's command line."),
		kong.Vars{"default_data": config.Default().Data, "default_config": config.DefaultFile},
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(code int) { exited, exitCode = true, code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
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
		return report(streams, codeError{ExitUsage, usageMessage(err)})
	}
	root.Token = os.Getenv("BORGFLEET_TOKEN")
	s := &session{Streams: streams, ctx: ctx, globals: &root.Globals, kong: parser}
	return report(streams, parsed.Run(s))
}

func usageMessage(err error) string {
	hint := "run borgfleet --help"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		if path := parse.Context.Command(); path != "" {
			hint = "run borgfleet " + path + " --help"
		}
	}
	return err.Error() + " (" + hint + ")"
}

// report prints an error as one line on standard error, and returns the exit
// code that it stands for.
func report(streams Streams, err error) int {
	if err == nil {
		return ExitDone
	}
	if coded, ok := errors.AsType[codeError](err); ok {
		if coded.message != "" {
			fmt.Fprintln(streams.Err, "borgfleet: "+oneLine(coded.message))
		}
		return coded.code
	}
	if unreachable, ok := errors.AsType[*client.UnreachableError](err); ok {
		fmt.Fprintf(streams.Err, "borgfleet: %s (%s)\n", oneLine(unreachable.Error()), unreachable.Hint())
		return ExitUnreachable
	}
	fmt.Fprintln(streams.Err, "borgfleet: "+oneLine(err.Error()))
	if failure, ok := errors.AsType[*job.Failure](err); ok {
		return exitOf(failure.Code)
	}
	return ExitFailed
}

func exitOf(code job.Code) int {
	switch code {
	case job.InvalidRequest, job.InvalidSpec, job.UnknownKind, job.TooLarge:
		return ExitUsage
	case job.NotAllowed, job.Unavailable:
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// printJSON writes value as indented JSON.
func (s *session) printJSON(value any) error {
	encoder := json.NewEncoder(s.Out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// show prints value as JSON if asked to, else calls human.
func (s *session) show(value any, human func()) error {
	if s.globals.JSON {
		return s.printJSON(value)
	}
	human()
	return nil
}

func (s *session) printf(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }

type versionCommand struct{}

func (versionCommand) Run(s *session) error {
	info := build.Current()
	return s.show(info, func() { s.printf("borgfleet %s\n", info) })
}
