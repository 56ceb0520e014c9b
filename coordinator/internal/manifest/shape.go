package manifest

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// field is a key that a mapping can have.
type field struct {
	name     string
	index    []int
	of       reflect.Type
	required bool // it has no omitempty
	doc      string
	enum     string
}

// shape is the keys of a type.
type shape struct {
	fields []field
	byName map[string]int
}

func (s shape) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// leftOut are keys of types that are shared with others, and have no meaning in
// a text: what plans say of themselves, and names that are keys here.
func leftOut(of reflect.Type) []string {
	switch of {
	case reflect.TypeFor[fleet.PlanSpec]():
		return []string{"archive", "canary"}
	case reflect.TypeFor[fleet.Rule]():
		return []string{"name"}
	default:
		return nil
	}
}

var shapes sync.Map // reflect.Type → shape

// shapeOf returns the keys of a struct, in the order of its fields.
func shapeOf(of reflect.Type) shape {
	if known, ok := shapes.Load(of); ok {
		return known.(shape)
	}
	s := shape{byName: map[string]int{}}
	without := leftOut(of)
	for _, f := range reflect.VisibleFields(of) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "" || name == "-" || slices.Contains(without, name) {
			continue
		}
		s.byName[name] = len(s.fields)
		s.fields = append(s.fields, field{
			name: name, index: f.Index, of: f.Type, required: !strings.Contains(options, "omit"),
			doc: f.Tag.Get("doc"), enum: f.Tag.Get("enum"),
		})
	}
	shapes.Store(of, s)
	return s
}
