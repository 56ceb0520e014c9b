package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the end of the command's help.
func (completionCommand) Help() string {
	return `Put it where your shell looks:

    borgfleet completion bash > /etc/bash_completion.d/borgfleet
    echo 'source <(borgfleet completion zsh)' >> ~/.zshrc
    borgfleet completion fish > ~/.config/fish/completions/borgfleet.fish`
}

// Run prints a script that completes commands and flags from the grammar.
func (c completionCommand) Run(s *session) error {
	words := map[string][]string{}
	collect(s.kong.Model.Node, "", words)
	if c.Shell == "fish" {
		for _, path := range slices.Sorted(maps.Keys(words)) {
			s.printf("complete -c borgfleet -n %s -a %s\n", quoted(fishCondition(path, words)), quoted(strings.Join(words[path], " ")))
		}
		return nil
	}
	var cases strings.Builder
	for _, path := range slices.Sorted(maps.Keys(words)) {
		fmt.Fprintf(&cases, "    %s) words=%s ;;\n", quoted(path), quoted(strings.Join(words[path], " ")))
	}
	if c.Shell == "zsh" {
		s.printf("autoload -U +X bashcompinit && bashcompinit\n")
	}
	s.printf(bashCompletion, cases.String())
	return nil
}

func quoted(text string) string { return "'" + text + "'" } // of names of commands and flags

// The path is made of the words that lead to a known command; values of flags
// and arguments do not.
const bashCompletion = `_borgfleet_words() {
  words=''
  case "$1" in
%s    *) return 1 ;;
  esac
}
_borgfleet() {
  local path='' word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if _borgfleet_words "${path:+$path }$word"; then path="${path:+$path }$word"; fi
  done
  _borgfleet_words "$path"
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _borgfleet borgfleet
`

// collect gathers, for each command path, the words that may follow it.
func collect(node *kong.Node, path string, words map[string][]string) {
	for _, child := range node.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		words[path] = append(words[path], child.Name)
		collect(child, strings.TrimSpace(path+" "+child.Name), words)
	}
	for _, argument := range node.Positional {
		if argument.Enum != "" {
			words[path] = append(words[path], argument.EnumSlice()...)
		}
	}
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			words[path] = append(words[path], "--"+flag.Name)
		}
	}
}

// fishCondition holds when the words of path were typed, and none of those that
// lead on.
func fishCondition(path string, words map[string][]string) string {
	var conditions []string
	for part := range strings.FieldsSeq(path) {
		conditions = append(conditions, "__fish_seen_subcommand_from "+part)
	}
	var deeper []string
	for _, word := range words[path] {
		if _, ok := words[strings.TrimSpace(path+" "+word)]; ok {
			deeper = append(deeper, word)
		}
	}
	if len(deeper) > 0 {
		conditions = append(conditions, "not __fish_seen_subcommand_from "+strings.Join(deeper, " "))
	}
	return strings.Join(conditions, "; and ")
}
