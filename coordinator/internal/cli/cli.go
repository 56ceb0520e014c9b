// Package cli is the command line: `borgfleet serve` runs the coordinator,
// every other command is an operator's and speaks to the HTTP API.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Globals are the flags that every command has.
type Globals struct {
	URL  string `help:"Coordinator to speak to. Default: the one of --data, else where you are logged in." env:"BORGFLEET_URL" placeholder:"URL" group:"global"`
	Data string `help:"Its data directory, on this machine. Default: ${default_data}." env:"BORGFLEET_DATA" type:"path" default:"" placeholder:"DIR" group:"global"`
	JSON bool   `help:"Print JSON, for scripts." name:"json" group:"global"`

	stranger string `kong:"-"` // the coordinator that was asked without saying who asks

	Token string `kong:"-"` // from BORGFLEET_TOKEN only: not a flag, since arguments are public
}

type grammar struct {
	Globals

	Status  statusCommand   `cmd:"" help:"What needs attention, what runs, what waits." group:"daily"`
	Backup  backupCommand   `cmd:"" help:"Run a plan now, or back up paths of a host, and watch." group:"daily"`
	Plan    planCommands    `cmd:"" help:"Plans, by which backups happen by themselves: list, show, add, change, run, pause, resume, history, calendar, freshness, accept, restore-test, remove." group:"daily"`
	Runs    runCommands     `cmd:"" name:"run" help:"Runs of plans: list, show, watch, cancel." group:"daily"`
	Alert   alertCommands   `cmd:"" help:"What needs a person: list, show, silence, silences, unsilence." group:"daily"`
	Job     jobCommands     `cmd:"" help:"Jobs: list, show, watch, log, cancel, retry, submit." group:"daily"`
	Archive archiveCommands `cmd:"" help:"Archives in a repository: list, show, files, find, history, diff, restore, download, delete, mount, umount." group:"daily"`

	Host hostCommands `cmd:"" help:"Hosts, the machines with data: list, show, add, token, verify, set, enable, disable, key, convert, remove." group:"fleet"`
	Repo repoCommands `cmd:"" help:"Repositories: list, show, add, init, info, prune, compact, check, break-lock, seal, key-export, allow, deny, unfreeze, transactions, rollback, remove." group:"fleet"`

	Notify notifyCommands `cmd:"" help:"Who is told of alerts: target, rule, log." group:"fleet"`

	Depot depotCommands `cmd:"" help:"The depot, where the coordinator keeps repositories itself: show." group:"fleet"`

	Apply  applyCommand   `cmd:"" help:"Make hosts, repositories, plans and notifications match a file, after showing the difference." group:"fleet"`
	Export exportCommand  `cmd:"" help:"Print the file that apply would accept." group:"fleet"`
	Import importCommands `cmd:"" help:"Make such a file of another program's configuration: borgmatic." group:"fleet"`

	Login     loginCommand  `cmd:"" help:"Sign in at a coordinator elsewhere." group:"people"`
	Logout    logoutCommand `cmd:"" help:"Sign out there." group:"people"`
	Whoami    whoamiCommand `cmd:"" help:"Who you are to the coordinator." group:"people"`
	Passwd    passwdCommand `cmd:"" help:"Change your password." group:"people"`
	User      userCommands  `cmd:"" help:"People who may sign in: list, add, role, link, remove." group:"people"`
	Tokens    tokenCommands `cmd:"" name:"token" help:"API tokens for programs: list, add, remove." group:"people"`
	NATSCreds natsCreds     `cmd:"" name:"nats-creds" help:"Credentials for the plain NATS client." group:"people"`
	Audit     auditCommands `cmd:"" help:"Who did what: list, verify." group:"people"`

	Serve      serveCommand      `cmd:"" help:"Run the coordinator." group:"program"`
	State      stateCommands     `cmd:"" help:"The coordinator's own state: backup, restore." group:"program"`
	Bus        busCommands       `cmd:"" help:"The bus: export it to a nats-server of your own." group:"program"`
	Completion completionCommand `cmd:"" help:"Print a completion script for bash, zsh or fish." group:"program"`
	Version    versionCommand    `cmd:"" help:"Print the version." group:"program"`
	Supervise  superviseCommand  `cmd:"" hidden:"" help:"Watch over one borg process (used by the coordinator itself)."`
}

// groups are the headings of the help.
func groups() []kong.Group {
	return []kong.Group{
		{Key: "daily", Title: "Every day:"},
		{Key: "fleet", Title: "What there is:"},
		{Key: "people", Title: "Who may do what:"},
		{Key: "program", Title: "The program:"},
		{Key: "global", Title: "Flags of every command:"},
	}
}

const description = `Backups of many hosts with borg: the coordinator, and its operator's command line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the job ended with warnings, 4 the job failed, expired or was cancelled, 5 not reachable or not allowed.`

// session is what a command gets to work with.
type session struct {
	console.Streams
	ctx     context.Context
	globals *Globals
	kong    *kong.Kong
}

// Main runs the command line and returns its exit code. ctx ends on a signal.
func Main(ctx context.Context, args []string, streams console.Streams) int {
	var root grammar
	program := console.Program{
		Name: "borgfleet", Description: description, Grammar: &root, Streams: streams,
		Vars: map[string]string{
			"default_data": config.Default().Data, "default_config": config.DefaultFile,
			"encryptions": join(job.Encryptions(), ","), "encryption_list": join(job.Encryptions(), ", "),
			"max_token_days": strconv.Itoa(maxTokenDays), "max_enrolment_days": strconv.Itoa(maxEnrolmentDays),
			"kinds": join(job.Kinds(), ", "), "files_caches": join(job.FilesCaches(), " "),
			"default_max_percent": strconv.Itoa(job.DefaultMaxPercent), "max_files": strconv.Itoa(fleet.MaxFiles), "default_idle": human.Duration(job.DefaultIdle),
		},
		Options:   []kong.Option{kong.ExplicitGroups(groups())},
		Arrange:   arrange,
		Translate: func(err error) error { return translate(err, root.stranger) },
		Session: func(parser *kong.Kong) any {
			root.Token = strings.TrimSpace(os.Getenv("BORGFLEET_TOKEN"))
			return &session{Streams: streams, ctx: ctx, globals: &root.Globals, kong: parser}
		},
	}
	return program.Main(args)
}

// arrange puts the commands of a group under a heading of their own.
func arrange(parser *kong.Kong) {
	var below func(node *kong.Node)
	below = func(node *kong.Node) {
		for _, child := range node.Children {
			child.Group = &kong.Group{Key: "commands", Title: "Commands:"} // not the parent's
			below(child)
		}
	}
	for _, command := range parser.Model.Children {
		below(command)
	}
	parser.Model.HelpFlag.Help = "Show help."
	parser.Model.HelpFlag.Group = &groups()[4]
}

// translate turns errors into those of a command line. stranger is the
// coordinator that was asked without saying who asks, if so.
func translate(err error, stranger string) error {
	if stranger != "" && isStranger(err) {
		return job.Fail(job.NotAuthenticated, "nothing is known here that lets you in at %s", stranger).
			WithHint("sign in with borgfleet login %s; scripts set BORGFLEET_TOKEN", stranger)
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return console.Exit{Code: console.ExitUnreachable, Err: err}
	}
	if _, ok := errors.AsType[console.Exit](err); !ok && errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}

func join[T ~string](names []T, separator string) string {
	var text strings.Builder
	for i, name := range names {
		if i > 0 {
			text.WriteString(separator)
		}
		text.WriteString(string(name))
	}
	return text.String()
}

// show prints value as JSON if asked to, else calls human.
func (s *session) show(value any, human func()) error {
	if s.globals.JSON {
		return s.PrintJSON(value)
	}
	human()
	return nil
}

func (s *session) printf(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }

type versionCommand struct{}

// Run runs the command.
func (versionCommand) Run(s *session) error {
	info := build.Current()
	return s.show(info, func() { s.printf("borgfleet %s\n", info) })
}
