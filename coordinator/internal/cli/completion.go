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

// Run prints a script that completes commands and flags from the grammar.
func (c completionCommand) Run(s *session) error {
	words := map[string][]string{}
	collect(s.kong.Model.Node, "", words)
	var cases strings.Builder
	for _, path := range slices.Sorted(maps.Keys(words)) {
		fmt.Fprintf(&cases, "    %q) words=%q ;;\n", path, strings.Join(words[path], " "))
	}
	switch c.Shell {
	case "bash":
		s.printf(bashCompletion, cases.String())
	case "zsh":
		s.printf("autoload -U +X bashcompinit && bashcompinit\n"+bashCompletion, cases.String())
	case "fish":
		for _, path := range slices.Sorted(maps.Keys(words)) {
			s.printf("complete -c borgfleet -f -n %q -a %q\n", fishCondition(path), strings.Join(words[path], " "))
		}
	}
	return nil
}

const bashCompletion = `_borgfleet() {
  local path="" word words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    [[ "$word" == -* ]] || path="${path:+$path }$word"
  done
  case "$path" in
%s  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _borgfleet borgfleet
`

// collect gathers, for each command path, the words that may follow it.
func collect(node *kong.Node, path string, words map[string][]string) {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			words[path] = append(words[path], "--"+flag.Name)
		}
	}
	for _, child := range node.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		words[path] = append(words[path], child.Name)
		collect(child, strings.TrimSpace(path+" "+child.Name), words)
	}
}

func fishCondition(path string) string {
	if path == "" {
		return "__fish_use_subcommand"
	}
	parts := strings.Fields(path)
	conditions := make([]string, len(parts))
	for i, part := range parts {
		conditions[i] = "__fish_seen_subcommand_from " + part
	}
	return strings.Join(conditions, "; and ")
}
