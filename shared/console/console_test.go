package console_test

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type grammar struct {
	Do         doCommand         `cmd:"" help:"Do it."`
	Nest       nest              `cmd:"" help:"Nested."`
	Completion completionCommand `cmd:"" help:"Print a completion script."`
}

type nest struct {
	Inner doCommand `cmd:"" help:"Do it inside."`
}

type doCommand struct {
	Loud bool   `help:"Loudly."`
	What string `arg:""`
}

type session struct {
	console.Streams
	parser *kong.Kong
	result error
}

func (doCommand) Run(s *session) error { return s.result }

type completionCommand struct{ console.Completion }

func (c completionCommand) Run(s *session) error {
	_, err := s.Out.Write([]byte(c.Script(s.parser)))
	return err
}

func run(result error, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	streams := console.Streams{Out: &out, Err: &errs}
	program := console.Program{
		Name: "do-it", Grammar: &grammar{}, Streams: streams,
		Session: func(k *kong.Kong) any { return &session{Streams: streams, parser: k, result: result} },
	}
	code = program.Main(args)
	return code, out.String(), errs.String()
}

type hinted struct{}

func (hinted) Error() string { return "nobody there" }
func (hinted) Hint() string  { return "knock" }

func TestErrorsAreOneLineWithTheirExitCode(t *testing.T) {
	for name, c := range map[string]struct {
		result error
		code   int
		stderr string
	}{
		"none":        {nil, 0, ""},
		"plain":       {errors.New("boom"), 1, "do-it: boom\n"},
		"two lines":   {errors.New("a\nb\n"), 1, "do-it: a; b\n"},
		"silent":      {console.Exit{Code: 4}, 4, ""},
		"coded":       {console.Exit{Code: 5, Err: errors.New("away")}, 5, "do-it: away\n"},
		"usage":       {console.Usage("no %s", "way"), 2, "do-it: no way\n"},
		"hint":        {hinted{}, 1, "do-it: nobody there (knock)\n"},
		"bad request": {job.Invalid("x", "bad").WithHint("good"), 2, "do-it: x: bad (good)\n"},
		"not allowed": {job.Fail(job.NotAllowed, "no"), 5, "do-it: no\n"},
		"not known":   {job.Fail(job.NotAuthenticated, "who?"), 5, "do-it: who?\n"},
		"not there":   {job.Fail(job.UnknownHost, "no host"), 1, "do-it: no host\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := run(c.result, "do", "it")
			if code != c.code || stderr != c.stderr {
				t.Errorf("%d %q, want %d %q", code, stderr, c.code, c.stderr)
			}
		})
	}
}

func TestWrongUsageNamesTheHelpThatHelps(t *testing.T) {
	for args, hint := range map[string]string{
		"frob":           "run do-it --help",
		"do":             "run do-it do --help",
		"nest inner":     "run do-it nest inner --help",
		"do it --colour": "run do-it do --help",
	} {
		code, _, stderr := run(nil, strings.Fields(args)...)
		if code != console.ExitUsage || !strings.Contains(stderr, hint) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: %d %q, want %q", args, code, stderr, hint)
		}
	}
}

func TestWordsInHelpsAndEnums(t *testing.T) {
	var errs, out bytes.Buffer
	program := console.Program{
		Name: "do-it", Streams: console.Streams{Out: &out, Err: &errs},
		Vars: map[string]string{"colours": "red,green", "most": "$9"},
		Grammar: &struct {
			Colour string `help:"One of ${colours}, at most ${most}. Default: ${default}." enum:"${colours}" default:"red"`
		}{},
		Session: func(*kong.Kong) any { return nil },
	}
	if code := program.Main([]string{"--help"}); code != 0 || !strings.Contains(out.String(), "One of red,green, at most $9. Default: red.") {
		t.Errorf("help: %d %s", code, &out)
	}
	if code := program.Main([]string{"--colour=blue"}); code != console.ExitUsage || !strings.Contains(errs.String(), `"red","green"`) {
		t.Errorf("enum: %d %s", code, &errs)
	}
}

func TestWithoutArgumentsTheHelpIsPrinted(t *testing.T) {
	if code, stdout, _ := run(nil); code != 0 || !strings.Contains(stdout, "Usage: do-it") {
		t.Errorf("%d %q", code, stdout)
	}
}

func TestBashCompletes(t *testing.T) {
	_, script, _ := run(nil, "completion", "bash")
	for line, want := range map[string]string{
		"do-it ":            "do",
		"do-it ne":          "nest",
		"do-it nest in":     "inner",
		"do-it do --l":      "--loud",
		"do-it completion ": "zsh",
	} {
		words := strings.Split(line, " ")
		quoted := "'" + strings.Join(words, "' '") + "'"
		test := script + "\nCOMP_WORDS=(" + quoted + "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _do_it; echo \"${COMPREPLY[*]}\""
		out, err := exec.Command("bash", "-c", test).CombinedOutput()
		if err != nil || !strings.Contains(" "+strings.TrimSpace(string(out))+" ", " "+want+" ") {
			t.Errorf("%q completes to %q (%v), want %q", line, out, err, want)
		}
	}
}

func TestEveryShellGetsAScript(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o default", "zsh": "bashcompinit", "fish": "__fish_seen_subcommand_from nest"} {
		if code, script, _ := run(nil, "completion", shell); code != 0 || !strings.Contains(script, want) {
			t.Errorf("%s: %d %q", shell, code, script)
		}
	}
	if code, _, _ := run(nil, "completion", "csh"); code != console.ExitUsage {
		t.Errorf("csh: %d", code)
	}
}
