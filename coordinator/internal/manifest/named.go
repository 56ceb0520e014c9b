package manifest

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Files returns the files with secrets that a text names. Whoever sends their
// content looks here which, and does not read whatever somebody else asks for.
func Files(text string) ([]string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var names []string
	collect(&document, &names)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// collect adds what a node and all below it name. What aliases repeat is there
// anyway.
func collect(node *yaml.Node, names *[]string) {
	for i, below := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 1 {
			switch node.Content[i-1].Value {
			case passphraseFile, identityFile, urlFile, secretFile:
				*names = append(*names, resolve(below).Value)
			}
		}
		collect(below, names)
	}
}
