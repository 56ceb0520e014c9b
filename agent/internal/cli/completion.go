package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// bashCompletion completes commands in the first place and that command's
// flags after it; %s are the commands and the cases of the flags.
const bashCompletion = `_borgfleet_agent() {
  local words=""
  if ((COMP_CWORD == 1)); then
    words=%q
  else
    case "${COMP_WORDS[1]}" in
%s    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _borgfleet_agent borgfleet-agent
`

// Run prints a script that completes commands and flags from the grammar.
func (c completionCommand) Run(s *session) error {
	var commands []string
	var cases, fish strings.Builder
	for _, command := range s.parser.Model.Children {
		if command.Hidden {
			continue
		}
		commands = append(commands, command.Name)
		flags := flagsOf(command)
		fmt.Fprintf(&cases, "    %s) words=%q ;;\n", command.Name, strings.Join(flags, " "))
		fmt.Fprintf(&fish, "complete -c borgfleet-agent -n '__fish_seen_subcommand_from %s' -a %q\n", command.Name, strings.Join(flags, " "))
	}
	var err error
	switch c.Shell {
	case "fish":
		_, err = fmt.Fprintf(s.Out, "complete -c borgfleet-agent -f -n __fish_use_subcommand -a %q\n%s", strings.Join(commands, " "), fish.String())
	case "zsh":
		_, err = fmt.Fprintf(s.Out, "autoload -U +X bashcompinit && bashcompinit\n"+bashCompletion, strings.Join(commands, " "), cases.String())
	default:
		_, err = fmt.Fprintf(s.Out, bashCompletion, strings.Join(commands, " "), cases.String())
	}
	return err
}

func flagsOf(command *kong.Node) []string {
	words := []string{"--help"}
	for _, flag := range command.Flags {
		if !flag.Hidden && flag.Name != "help" {
			words = append(words, "--"+flag.Name)
		}
	}
	for _, argument := range command.Positional {
		words = append(words, argument.EnumSlice()...)
	}
	return words
}
