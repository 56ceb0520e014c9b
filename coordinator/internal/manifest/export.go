package manifest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Export returns the text that matches what there is: applied, it changes
// nothing. Secrets are not in it, only the files that they came from.
func (s *Service) Export(ctx context.Context) (string, error) {
	st, err := s.read(ctx)
	if err != nil {
		return "", err
	}
	return Write(st.document())
}

// document returns what there is as a text says it.
func (st state) document() Document {
	d := Document{
		Hosts: map[string]Host{}, Repositories: map[string]Repository{}, Plans: st.plans,
		Notify: &Notify{Targets: map[string]Target{}, Rules: map[string]fleet.Rule{}},
	}
	for name, host := range st.hosts {
		if host.Mode != fleet.ModeLocal {
			d.Hosts[name] = hostOf(host, st.notes["host/"+name])
		}
	}
	for name, repository := range st.repositories {
		if !repository.Pending {
			d.Repositories[name] = repositoryOf(repository, st.notes["repository/"+name])
		}
	}
	for name, target := range st.targets {
		d.Notify.Targets[name] = targetOf(target, st.notes["target/"+name])
	}
	maps.Copy(d.Notify.Rules, st.rules)
	if len(st.targets)+len(st.rules) == 0 {
		d.Notify = nil
	}
	return d
}

// Write writes a document as a text. Secrets in it are left out.
func Write(document Document) (string, error) {
	root := nodeOf(reflect.ValueOf(document))
	if len(root.Content) == 0 {
		return "hosts: {}\n", nil
	}
	root.Style = 0
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return "", fmt.Errorf("write YAML: %w", err)
	}
	return text.String(), encoder.Close()
}

// flowWidth is how long a list may be that stands in one line.
const flowWidth = 100

// nodeOf writes a value, of the types that a document has.
func nodeOf(value reflect.Value) *yaml.Node {
	switch value.Kind() {
	case reflect.Pointer:
		return nodeOf(value.Elem())
	case reflect.Struct:
		node := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range shapeOf(value.Type()).fields {
			if inner, err := value.FieldByIndexErr(f.index); err == nil && !empty(inner) {
				node.Content = append(node.Content, text(f.name), nodeOf(inner))
			}
		}
		return inLine(node)
	case reflect.Map:
		node := &yaml.Node{Kind: yaml.MappingNode}
		keys := value.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			node.Content = append(node.Content, text(key.String()), nodeOf(value.MapIndex(key)))
		}
		return inLine(node)
	case reflect.Slice:
		node := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range value.Len() {
			node.Content = append(node.Content, nodeOf(value.Index(i)))
		}
		return inLine(node)
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: boolTag, Value: strconv.FormatBool(value.Bool())}
	case reflect.String:
		return text(value.String())
	default: // there are only whole numbers besides
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: integerTag, Value: strconv.FormatInt(value.Int(), 10)}
	}
}

func text(value string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: stringTag, Value: value}
	if strings.Contains(value, "\n") {
		node.Style = yaml.LiteralStyle
	}
	return node
}

// inLine puts short lists and mappings of plain values into one line.
func inLine(node *yaml.Node) *yaml.Node {
	length := 0
	for _, inner := range node.Content {
		if inner.Kind != yaml.ScalarNode || inner.Style == yaml.LiteralStyle {
			return node
		}
		length += len(inner.Value) + 2
	}
	if length <= flowWidth {
		node.Style = yaml.FlowStyle
	}
	return node
}

// empty reports whether a value says nothing: it is left out. A section that
// holds nothing is one that says so.
func empty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Slice:
		return value.Len() == 0
	case reflect.Map:
		return value.Len() == 0 && value.Type() != reflect.TypeFor[map[string]Host]()
	case reflect.Struct:
		return value.Type() == reflect.TypeFor[secret.Value]()
	default:
		return value.IsZero()
	}
}
