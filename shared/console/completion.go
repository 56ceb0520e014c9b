package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Completion is the command that prints a shell completion script.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

const bashCompletion = `_%[1]s() {
  local path="" word words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    [[ "$word" == -* ]] || path="${path:+$path }$word"
  done
  case "$path" in
%[3]s  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _%[1]s %[2]s
`

// Script returns the completion script of a program, made from its grammar.
func (c Completion) Script(program *kong.Kong) string {
	name := program.Model.Name
	words := map[string][]string{}
	collect(program.Model.Node, "", words)
	paths := slices.Sorted(maps.Keys(words))
	var script strings.Builder
	if c.Shell == "fish" {
		for _, path := range paths {
			fmt.Fprintf(&script, "complete -c %s -f -n %q -a %q\n", name, fishCondition(path), strings.Join(words[path], " "))
		}
		return script.String()
	}
	for _, path := range paths {
		fmt.Fprintf(&script, "    %q) words=%q ;;\n", path, strings.Join(words[path], " "))
	}
	bash := fmt.Sprintf(bashCompletion, strings.ReplaceAll(name, "-", "_"), name, script.String())
	if c.Shell == "zsh" {
		return "autoload -U +X bashcompinit && bashcompinit\n" + bash
	}
	return bash
}

// collect gathers, for each command path, the words that may follow it.
func collect(node *kong.Node, path string, words map[string][]string) {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			words[path] = append(words[path], "--"+flag.Name)
		}
	}
	for _, argument := range node.Positional {
		words[path] = append(words[path], argument.EnumSlice()...)
	}
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			words[path] = append(words[path], child.Name)
			collect(child, strings.TrimSpace(path+" "+child.Name), words)
		}
	}
}

func fishCondition(path string) string {
	if path == "" {
		return "__fish_use_subcommand"
	}
	parts := strings.Fields(path)
	for i, part := range parts {
		parts[i] = "__fish_seen_subcommand_from " + part
	}
	return strings.Join(parts, "; and ")
}
