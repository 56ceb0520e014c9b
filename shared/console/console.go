// Package console is what the command lines of both programs have in common:
// exit codes, errors as one line on standard error, JSON, shell completion.
package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Exit codes (contract.md).
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitWarning     = 3 // the job ended with warnings
	ExitJobFailed   = 4 // the job failed, expired or was cancelled
	ExitUnreachable = 5 // not reachable or not allowed
)

// Streams are the three standard streams.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// PrintJSON writes value as indented JSON.
func (s Streams) PrintJSON(value any) error {
	encoder := json.NewEncoder(s.Out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// Exit is an error that ends the program with a code of its own. A nil Err
// says that everything has been said.
type Exit struct {
	Code int
	Err  error
}

// Error implements error.
func (e Exit) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e Exit) Unwrap() error { return e.Err }

// Usage is the Exit of a command that was called wrongly.
func Usage(format string, args ...any) Exit {
	return Exit{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// Program is a command line.
type Program struct {
	Name        string
	Description string
	Grammar     any               // pointer to a struct of kong's tags
	Vars        map[string]string // what stands for ${name} in helps and enums
	Streams     Streams
	// Session makes what the commands' Run methods take.
	Session func(*kong.Kong) any
	// Options and Arrange refine the grammar's help; Translate turns errors
	// into those of this package. Each may be nil.
	Options   []kong.Option
	Arrange   func(*kong.Kong)
	Translate func(error) error
}

// Main parses arguments, runs the command, and returns the exit code. Without
// arguments it prints the help.
func (p Program) Main(args []string) int {
	exited, exitCode := false, 0
	parser, err := kong.New(p.Grammar, append([]kong.Option{
		kong.Name(p.Name), kong.Description(p.Description), words(p.Vars),
		kong.Writers(p.Streams.Out, p.Streams.Err),
		kong.Exit(func(code int) { exited, exitCode = true, code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	}, p.Options...)...)
	if err != nil {
		return p.report(err)
	}
	if p.Arrange != nil {
		p.Arrange(parser)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	switch {
	case exited:
		return exitCode
	case err != nil:
		return p.report(Usage("%w (run %s --help)", err, strings.TrimSpace(p.Name+" "+commandOf(err))))
	}
	return p.report(parsed.Run(p.Session(parser)))
}

// commandOf returns the command at which parsing failed.
func commandOf(err error) string {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if !ok || parse.Context == nil {
		return ""
	}
	var words []string
	for _, element := range parse.Context.Path {
		if element.Command != nil {
			words = append(words, element.Command.Name)
		}
	}
	return strings.Join(words, " ")
}

// hinter is an error that knows what to do about it.
type hinter interface{ Hint() string }

// report prints an error as one line, and returns the exit code it stands for.
func (p Program) report(err error) int {
	if err == nil {
		return ExitDone
	}
	if p.Translate != nil {
		err = p.Translate(err)
	}
	if text := err.Error(); text != "" {
		if h, ok := errors.AsType[interface {
			error
			hinter
		}](err); ok {
			text += " (" + h.Hint() + ")"
		}
		fmt.Fprintf(p.Streams.Err, "%s: %s\n", p.Name, oneLine(text))
	}
	if exit, ok := errors.AsType[Exit](err); ok {
		return exit.Code
	}
	if failure, ok := errors.AsType[*job.Failure](err); ok {
		return codeOf(failure.Code)
	}
	return ExitFailed
}

func codeOf(code job.Code) int {
	switch code {
	case job.InvalidRequest, job.InvalidSpec, job.UnknownKind, job.TooLarge:
		return ExitUsage
	case job.NotAuthenticated, job.NotAllowed, job.PermissionDenied, job.Unavailable, job.HostUnreachable:
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

func oneLine(text string) string {
	return Printable(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; "))
}

// Printable replaces what a terminal would act upon: file names and borg's
// words come from elsewhere.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, text)
}
