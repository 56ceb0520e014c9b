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
	URL  string `help:"Coordinator to speak to. Default: the one of --data." env:"BORGFLEET_URL" placeholder:"URL" group:"global"`
	Data string `help:"Its data directory. Default: ${default_data}." type:"path" placeholder:"DIR" group:"global"`
	JSON bool   `help:"Print JSON, for scripts." name:"json" group:"global"`

	Token string `kong:"-"` // from BORGFLEET_TOKEN only: not a flag, since arguments are public
}

type grammar struct {
	Globals

	Status  statusCommand   `cmd:"" help:"What needs attention, what runs, what waits." group:"daily"`
	Backup  backupCommand   `cmd:"" help:"Back up paths of a host now, and watch." group:"daily"`
	Job     jobCommands     `cmd:"" help:"Jobs: list, show, watch, log, cancel, retry, submit." group:"daily"`
	Archive archiveCommands `cmd:"" help:"Archives in a repository: list, show." group:"daily"`

	Host hostCommands `cmd:"" help:"Hosts, the machines with data: list, show, add, remove." group:"fleet"`
	Repo repoCommands `cmd:"" help:"Repositories: list, show, add, init, info, prune, compact, check, remove." group:"fleet"`

	Serve      serveCommand      `cmd:"" help:"Run the coordinator." group:"program"`
	Completion completionCommand `cmd:"" help:"Print a completion script for bash, zsh or fish." group:"program"`
	Version    versionCommand    `cmd:"" help:"Print the version." group:"program"`
}

// groups are the headings of the help.
func groups() []kong.Group {
	return []kong.Group{
		{Key: "daily", Title: "Every day:"},
		{Key: "fleet", Title: "What there is:"},
		{Key: "program", Title: "The program:"},
		{Key: "global", Title: "Flags of every command:"},
	}
}

const description = `Backups of many hosts with borg: the coordinator, and its operator's command line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the job ended with warnings, 4 the job failed or was cancelled, 5 not reachable or not allowed.`

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
		kong.Description(description),
		kong.ExplicitGroups(groups()),
		kong.Vars{"default_data": config.Default().Data, "default_config": config.DefaultFile, "encryptions": encryptions(","), "encryption_list": encryptions(", ")},
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(code int) { exited, exitCode = true, code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
	if err != nil {
		return report(streams, err)
	}
	for _, command := range parser.Model.Children {
		for _, child := range command.Children {
			child.Group = &kong.Group{Key: "commands", Title: "Commands:"} // not the parent's
		}
	}
	parser.Model.HelpFlag.Help = "Show help."
	parser.Model.HelpFlag.Group = &groups()[3]
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

func encryptions(separator string) string {
	var names []string
	for _, e := range job.Encryptions() {
		names = append(names, string(e))
	}
	return strings.Join(names, separator)
}

func usageMessage(err error) string {
	hint := "run borgfleet"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		for _, element := range parse.Context.Path {
			if element.Command != nil {
				hint += " " + element.Command.Name
			}
		}
	}
	return err.Error() + " (" + hint + " --help)"
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
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
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
	return printable(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
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
