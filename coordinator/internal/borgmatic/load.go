package borgmatic

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a configuration.
const (
	maxIncludes = 64 // one within the other
	maxFiles    = 1000
	maxBytes    = 8 << 20 // of each
	maxDepth    = 64
	maxValues   = 1_000_000
)

// loader reads a file with all that it includes.
type loader struct {
	directory string                           // of the file that was named: includes are looked for there, too
	lookup    func(name string) (string, bool) // environment variables
	stack     []string
	values    int
	files     int
}

// load reads a configuration: includes, merged keys and environment variables are
// filled in.
func load(path string, lookup func(string) (string, bool)) (map[string]any, error) {
	l := &loader{directory: filepath.Dir(path), lookup: lookup}
	value, err := l.file(path)
	if err != nil {
		return nil, err
	}
	config, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: there are no keys in it", path)
	}
	return config, nil
}

func (l *loader) file(path string) (any, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	if slices.Contains(l.stack, absolute) {
		return nil, fmt.Errorf("%s includes itself: %s", absolute, strings.Join(append(l.stack, absolute), " → "))
	}
	if len(l.stack) >= maxIncludes {
		return nil, fmt.Errorf("%s: more than %d includes, one within the other", absolute, maxIncludes)
	}
	if l.files++; l.files > maxFiles {
		return nil, fmt.Errorf("%s: more than %d files are included", absolute, maxFiles)
	}
	text, err := readFile(absolute)
	if err != nil {
		return nil, err // it names the file
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(document.Content) == 0 {
		return map[string]any{}, nil
	}
	l.stack = append(l.stack, absolute)
	defer func() { l.stack = l.stack[:len(l.stack)-1] }()
	return l.value(document.Content[0], 0)
}

// readFile reads a file, unless it is too large, or has no end.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // read only: nothing to lose
	text, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err == nil && len(text) > maxBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxBytes)
	}
	return text, err
}

// include reads what an !include names: a file, or several that are merged.
func (l *loader) include(node *yaml.Node) (any, error) {
	names := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		names = slices.Clone(node.Content)
		slices.Reverse(names) // earlier ones go before later ones
	}
	var all any
	for _, name := range names {
		value, err := l.file(l.find(name.Value))
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: include: %w", l.stack[len(l.stack)-1], name.Line, err)
		}
		all = merge(all, value)
	}
	return all, nil
}

// find returns where an included file is: beside the file that names it, or beside
// the one that was named first.
func (l *loader) find(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	beside := filepath.Join(filepath.Dir(l.stack[len(l.stack)-1]), name)
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	return filepath.Join(l.directory, name)
}

// Tags of borgmatic.
const (
	includeTag = "!include"
	retainTag  = "!retain" // what is included does not add to this
	omitTag    = "!omit"   // what is included has this, and it is left out
)

// retained is a value that is not merged; omitted an entry that is taken out.
type (
	retained struct{ value any }
	omitted  struct{ value any }
)

func (l *loader) value(node *yaml.Node, depth int) (any, error) {
	if l.values++; l.values > maxValues || depth > maxDepth {
		return nil, fmt.Errorf("%s: there is too much in it, or it repeats itself", l.stack[len(l.stack)-1])
	}
	switch {
	case node.Kind == yaml.AliasNode:
		return l.value(node.Alias, depth+1)
	case node.Tag == includeTag:
		return l.include(node)
	case node.Tag == retainTag || node.Tag == omitTag:
		plain, tag := *node, node.Tag
		plain.Tag = ""
		value, err := l.value(&plain, depth)
		if tag == omitTag {
			return omitted{value}, err
		}
		return retained{value}, err
	case node.Kind == yaml.MappingNode:
		return l.mapping(node, depth)
	case node.Kind == yaml.SequenceNode:
		list := []any{}
		for _, item := range node.Content {
			value, err := l.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	}
	return l.scalar(node)
}

func (l *loader) mapping(node *yaml.Node, depth int) (any, error) {
	own, merged := map[string]any{}, any(nil)
	for i := 0; i+1 < len(node.Content); i += 2 {
		value, err := l.value(node.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if node.Content[i].Value == "<<" {
			merged = merge(merged, value)
			continue
		}
		own[node.Content[i].Value] = value
	}
	return merge(merged, own), nil
}

func (l *loader) scalar(node *yaml.Node) (any, error) {
	if node.Tag != "!!str" && node.Tag != "" {
		var value any
		if err := node.Decode(&value); err == nil {
			return value, nil
		}
	}
	text, err := l.environment(node.Value)
	if err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", l.stack[len(l.stack)-1], node.Line, err)
	}
	return text, nil
}

var variable = regexp.MustCompile(`(\\)?\$\{([A-Za-z0-9_]+)(?:(:-)([^}]*))?\}`)

// environment fills in ${NAME} and ${NAME:-default}; \${NAME} stays, without the
// backslash.
func (l *loader) environment(text string) (string, error) {
	var missing []string
	text = variable.ReplaceAllStringFunc(text, func(found string) string {
		parts := variable.FindStringSubmatch(found)
		if parts[1] != "" {
			return found[1:]
		}
		if value, set := l.lookup(parts[2]); set {
			return value
		}
		if parts[3] == "" {
			missing = append(missing, parts[2])
		}
		return parts[4]
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("the environment has no %s: set it for this command", strings.Join(missing, ", "))
	}
	return text, nil
}

// merge lays what is nearer over what is included: mappings key by key, lists one
// after the other.
func merge(far, near any) any {
	switch n := near.(type) {
	case retained:
		return n.value
	case map[string]any:
		f, ok := far.(map[string]any)
		if !ok {
			return near
		}
		all := map[string]any{}
		for key, value := range f {
			all[key] = value
		}
		for key, value := range n {
			all[key] = merge(all[key], value)
		}
		return all
	case []any:
		f, _ := far.([]any)
		return lists(f, n)
	case nil:
		return far
	default:
		return near
	}
}

func lists(far, near []any) []any {
	all := slices.Clone(far)
	for _, item := range near {
		if out, ok := item.(omitted); ok {
			all = slices.DeleteFunc(all, func(have any) bool { return fmt.Sprint(have) == fmt.Sprint(out.value) })
			continue
		}
		all = append(all, item)
	}
	return all
}
