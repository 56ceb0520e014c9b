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

// Script returns the completion script of a program, made from its grammar.
func (c Completion) Script(program *kong.Kong) string {
	name := program.Model.Name
	words := map[string][]string{}
	collect(program.Model.Node, "", words)
	var script strings.Builder
	if c.Shell == "fish" {
		for _, path := range slices.Sorted(maps.Keys(words)) {
			fmt.Fprintf(&script, "complete -c %s -n %s -a %s\n", name, quoted(fishCondition(path, words)), quoted(strings.Join(words[path], " ")))
		}
		return script.String()
	}
	for _, path := range slices.Sorted(maps.Keys(words)) {
		fmt.Fprintf(&script, "    %s) words=%s ;;\n", quoted(path), quoted(strings.Join(words[path], " ")))
	}
	bash := fmt.Sprintf(bashCompletion, strings.ReplaceAll(name, "-", "_"), name, script.String())
	if c.Shell == "zsh" {
		return "autoload -U +X bashcompinit && bashcompinit\n" + bash
	}
	return bash
}

func quoted(text string) string { return "'" + text + "'" } // of names of commands and flags

// The path is made of the words that lead to a known command; values of flags
// and arguments do not.
const bashCompletion = `_%[1]s_words() {
  words=''
  case "$1" in
%[3]s    *) return 1 ;;
  esac
}
_%[1]s() {
  local path='' word words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if _%[1]s_words "${path:+$path }$word"; then path="${path:+$path }$word"; fi
  done
  _%[1]s_words "$path"
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _%[1]s %[2]s
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
