package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where something stands in the text: names and numbers, innermost last.
type place struct {
	within *place
	name   string
	index  int
	listed bool
}

func (p *place) key(name string) *place { return &place{within: p, name: name} }
func (p *place) item(i int) *place      { return &place{within: p, index: i, listed: true} }

// String writes a place as plans.daily.paths[2].
func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.listed:
		return p.within.String() + "[" + strconv.Itoa(p.index) + "]"
	case p.within == nil:
		return p.name
	default:
		return p.within.String() + "." + p.name
	}
}

// locate finds a field by its path. What is not there is found as what it would
// be in.
func locate(root *yaml.Node, path string) (line, column int) {
	node := root
	for path != "" && node != nil {
		node = resolve(node)
		at, value, rest := step(node, path)
		if at == nil {
			break
		}
		line, column, node, path = at.Line, at.Column, value, rest
	}
	return line, column
}

// resolve follows an alias.
func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// step goes one step along a path: to where the step stands, what is there, and
// the path from there on. A name may itself have dots.
func step(node *yaml.Node, path string) (at, value *yaml.Node, rest string) {
	if number, after, ok := strings.Cut(strings.TrimPrefix(path, "["), "]"); ok && strings.HasPrefix(path, "[") && node.Kind == yaml.SequenceNode {
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= len(node.Content) {
			return nil, nil, ""
		}
		return node.Content[i], node.Content[i], strings.TrimPrefix(after, ".")
	}
	if node.Kind != yaml.MappingNode {
		return nil, nil, ""
	}
	length := -1
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i].Value
		after, ok := strings.CutPrefix(path, name)
		if ok && len(name) > length && (after == "" || after[0] == '.' || after[0] == '[') {
			at, value, rest, length = node.Content[i], node.Content[i+1], strings.TrimPrefix(after, "."), len(name)
		}
	}
	return at, value, rest
}
