package manifest

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Bounds of a text.
const (
	MaxBytes   = 32 << 20
	maxDepth   = 64
	maxValues  = 4_000_000 // also of what aliases repeat
	maxMarks   = 2_000_000 // commas and lines, each of which costs hundreds of bytes while it is read
	maxFaults  = 1000
	extension  = "x-" // keys that begin so, at the top, are for the writer alone
	mergeKey   = "<<"
	nullTag    = "!!null"
	stringTag  = "!!str"
	boolTag    = "!!bool"
	integerTag = "!!int"
	timeTag    = "!!timestamp"
	mergeTag   = "!!merge"
)

// decoder reads a text's values, and notes all that is wrong with them.
type decoder struct {
	faults []fleet.ManifestFault
	values int
}

// parse reads a text. The root is nil if it is no YAML at all.
func parse(text string) (document Document, root *yaml.Node, faults []fleet.ManifestFault) {
	if len(text) > MaxBytes {
		return document, nil, []fleet.ManifestFault{{Message: fmt.Sprintf("it is larger than %d bytes", MaxBytes)}}
	}
	if strings.Count(text, ",")+strings.Count(text, "\n") > maxMarks {
		return document, nil, []fleet.ManifestFault{{Message: "there is too much in it", Hint: "part it into several files"}}
	}
	var file, more yaml.Node
	stream := yaml.NewDecoder(strings.NewReader(text))
	if err := stream.Decode(&file); err != nil || len(file.Content) == 0 || file.Content[0].Tag == nullTag {
		return document, nil, []fleet.ManifestFault{syntaxFault(err)}
	}
	d := &decoder{}
	if err := stream.Decode(&more); err == nil {
		d.fault(&more, nil, "there is a second document", "put everything into one")
	}
	root = file.Content[0]
	d.read(root, reflect.ValueOf(&document).Elem(), nil, 0)
	return document, root, d.faults
}

var syntaxLine = regexp.MustCompile(`line ([0-9]+): `)

// syntaxFault says where a text is no YAML; nil: there is nothing in it.
func syntaxFault(err error) fleet.ManifestFault {
	if err == nil || err.Error() == "EOF" {
		return fleet.ManifestFault{Message: "there is nothing in it", Hint: "borgfleet export shows what there is now"}
	}
	fault := fleet.ManifestFault{Message: strings.TrimPrefix(err.Error(), "yaml: "), Hint: "it is not YAML"}
	if match := syntaxLine.FindStringSubmatchIndex(fault.Message); match != nil {
		fault.Line, _ = strconv.Atoi(fault.Message[match[2]:match[3]])
		fault.Column = 1
		fault.Message = fault.Message[:match[0]] + fault.Message[match[1]:]
	}
	return fault
}

func (d *decoder) fault(node *yaml.Node, at *place, message, hint string) {
	if len(d.faults) < maxFaults {
		d.faults = append(d.faults, fleet.ManifestFault{Line: node.Line, Column: node.Column, Field: at.String(), Message: message, Hint: hint})
	}
}

// read reads a value of the text into one of ours.
func (d *decoder) read(node *yaml.Node, into reflect.Value, at *place, depth int) {
	node = resolve(node)
	if d.values++; d.values > maxValues || depth > maxDepth {
		if d.values == maxValues+1 || depth > maxDepth {
			d.fault(node, at, "there is too much in it, or aliases that repeat too much", "")
		}
		return
	}
	if node.Tag == nullTag && node.Kind == yaml.ScalarNode {
		return // as if it were left out
	}
	switch {
	case into.Type() == reflect.TypeFor[secret.Value]():
		if text, ok := d.text(node, at, into.Type()); ok {
			into.Set(reflect.ValueOf(secret.FromString(text)))
		}
	case into.Kind() == reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.read(node, into.Elem(), at, depth)
	case into.Kind() == reflect.Struct:
		d.structure(node, into, at, depth)
	case into.Kind() == reflect.Map:
		d.mapping(node, into, at, depth)
	case into.Kind() == reflect.Slice:
		d.list(node, into, at, depth)
	default:
		d.scalar(node, into, at)
	}
}

// pair is a key with its value.
type pair struct{ key, value *yaml.Node }

// pairs returns what a mapping holds, merged ones last, which explicit ones
// replace.
func (d *decoder) pairs(node *yaml.Node, at *place, depth int) []pair {
	if node.Kind != yaml.MappingNode {
		d.fault(node, at, "it takes keys with values, not "+kindOf(node), "")
		return nil
	}
	list, merged := make([]pair, 0, len(node.Content)/2), []*yaml.Node(nil)
	seen := make(map[string]*yaml.Node, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch first := seen[key.Value]; {
		case key.Tag == mergeTag || key.Value == mergeKey && key.Style == 0:
			merged = append(merged, value)
		case key.Kind != yaml.ScalarNode:
			d.fault(key, at, "a key is not a word", "")
		case first != nil:
			d.fault(key, at.key(key.Value), fmt.Sprintf("it is given twice, first in line %d", first.Line), "keep one of them")
		default:
			seen[key.Value] = key
			list = append(list, pair{key, value})
		}
	}
	for _, value := range merged {
		list = d.merge(list, seen, value, at, depth)
	}
	return list
}

// merge adds what a merge key brings.
func (d *decoder) merge(list []pair, seen map[string]*yaml.Node, value *yaml.Node, at *place, depth int) []pair {
	value = resolve(value)
	sources := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		sources = value.Content
	}
	if d.values++; d.values > maxValues || depth > maxDepth {
		d.fault(value, at, "merged too deep", "")
		return list
	}
	for _, source := range sources {
		source = resolve(source)
		if source.Kind != yaml.MappingNode {
			d.fault(source, at, "what is merged are not keys with values", "")
			continue
		}
		for _, p := range d.pairs(source, at, depth+1) {
			if seen[p.key.Value] == nil {
				seen[p.key.Value] = p.key
				list = append(list, p)
			}
		}
	}
	return list
}

func (d *decoder) structure(node *yaml.Node, into reflect.Value, at *place, depth int) {
	s := shapeOf(into.Type())
	for _, p := range d.pairs(node, at, depth) {
		i, known := s.byName[p.key.Value]
		switch {
		case known:
			f := s.fields[i]
			d.read(p.value, into.FieldByIndex(f.index), at.key(f.name), depth+1)
			d.word(p.value, f, at)
		case depth == 0 && strings.HasPrefix(p.key.Value, extension):
		default:
			d.unknown(p.key, s, at)
		}
	}
}

// unknown says that a key is none, and which one may have been meant.
func (d *decoder) unknown(key *yaml.Node, s shape, at *place) {
	names := s.names()
	hint := "there are " + strings.Join(names, ", ")
	if near := nearest(key.Value, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.fault(key, at.key(key.Value), "there is no such key", hint)
}

// word checks a value of which there is a fixed set.
func (d *decoder) word(node *yaml.Node, f field, at *place) {
	node = resolve(node)
	words := strings.Split(f.enum, ",")
	if f.enum == "" || node.Kind != yaml.ScalarNode || node.Tag != stringTag {
		return
	}
	for _, word := range words {
		if node.Value == word {
			return
		}
	}
	hint := "one of " + strings.Join(words, ", ")
	if near := nearest(node.Value, words); near != "" {
		hint = "did you mean " + near + "?"
	}
	d.fault(node, at.key(f.name), fmt.Sprintf("%q is none", node.Value), hint)
}

func (d *decoder) mapping(node *yaml.Node, into reflect.Value, at *place, depth int) {
	pairs := d.pairs(node, at, depth)
	into.Set(reflect.MakeMapWithSize(into.Type(), len(pairs)))
	value := reflect.New(into.Type().Elem()).Elem()
	for _, p := range pairs {
		value.SetZero()
		d.read(p.value, value, at.key(p.key.Value), depth+1)
		into.SetMapIndex(reflect.ValueOf(p.key.Value).Convert(into.Type().Key()), value)
	}
}

func (d *decoder) list(node *yaml.Node, into reflect.Value, at *place, depth int) {
	if node.Kind != yaml.SequenceNode {
		hint := ""
		if node.Kind == yaml.ScalarNode {
			hint = "write [" + node.Value + "]"
		}
		d.fault(node, at, "it takes a list, not "+kindOf(node), hint)
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		if resolve(item).Tag == nullTag {
			d.fault(item, at.item(i), "it is empty", "")
			continue
		}
		d.read(item, into.Index(i), at.item(i), depth+1)
	}
}

// scalar reads text, a number, or true and false.
func (d *decoder) scalar(node *yaml.Node, into reflect.Value, at *place) {
	switch kind := into.Kind(); {
	case kind == reflect.String:
		if text, ok := d.text(node, at, into.Type()); ok {
			into.SetString(text)
		}
	case node.Kind != yaml.ScalarNode:
		d.fault(node, at, "it takes one value, not "+kindOf(node), "")
	case kind == reflect.Bool:
		var truth bool
		if node.Tag != boolTag || node.Decode(&truth) != nil {
			d.fault(node, at, fmt.Sprintf("%q is neither true nor false", node.Value), "")
		}
		into.SetBool(truth)
	default: // there are only whole numbers besides
		var number int64
		if node.Tag != integerTag || node.Decode(&number) != nil || into.OverflowInt(number) {
			d.fault(node, at, fmt.Sprintf("%q is not a whole number", node.Value), "")
			return
		}
		into.SetInt(number)
	}
}

// text reads text. Numbers are not taken for it, as they would not come back as
// they were written; but for lengths and sizes.
func (d *decoder) text(node *yaml.Node, at *place, of reflect.Type) (string, bool) {
	if node.Kind != yaml.ScalarNode {
		d.fault(node, at, "it takes text, not "+kindOf(node), "")
		return "", false
	}
	switch {
	case node.Tag == stringTag, node.Tag == timeTag, of == reflect.TypeFor[fleet.Size]() && node.Tag == integerTag:
		return node.Value, true
	case of == reflect.TypeFor[fleet.Span]():
		if node.Value == "0" {
			return "0s", true
		}
		d.fault(node, at, fmt.Sprintf("%q has no unit", node.Value), "write it like 90s, 15m, 36h or 7d")
	case of == reflect.TypeFor[secret.Value](): // whose value nobody is shown
		d.fault(node, at, "it is not text", "put it into quotes")
	default:
		d.fault(node, at, fmt.Sprintf("%s is not text", node.Value), fmt.Sprintf("put it into quotes: %q", node.Value))
	}
	return "", false
}

func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "one value"
	}
}
