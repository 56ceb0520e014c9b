package manifest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Forms of names and values, as JSON Schema writes them.
const (
	hostPattern       = "^[a-z0-9-]{1,63}$"
	repositoryPattern = "^[a-z0-9][a-z0-9._-]{0,62}$"
	namePattern       = "^[a-z0-9][a-z0-9-]{0,62}$"
	spanPattern       = `^([0-9]+d|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|0)$`
	sizePattern       = `^[0-9]+(\.[0-9]+)? ?([KMGTP]i?)?B?$`
)

type object = map[string]any

// Schema returns the JSON Schema of fleet.yaml, for editors.
func Schema() ([]byte, error) {
	s := schemaWriter{defs: object{}}
	root := s.of(reflect.TypeFor[Document](), "")
	top := s.defs["Document"].(object)
	delete(s.defs, "Document")
	if root == nil {
		return nil, fmt.Errorf("there is no schema")
	}
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "fleet.yaml: hosts, repositories, plans and notifications of borgfleet"
	top["patternProperties"] = object{"^" + extension: true}
	top["$defs"] = s.defs
	data, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return append(data, '\n'), nil
}

type schemaWriter struct{ defs object }

// of returns the schema of a type. Structs are defined once, and referred to.
func (s schemaWriter) of(t reflect.Type, path string) object {
	switch t {
	case reflect.TypeFor[fleet.Span]():
		return object{"type": "string", "pattern": spanPattern}
	case reflect.TypeFor[fleet.Size]():
		return object{"type": []string{"string", "integer"}, "pattern": sizePattern}
	case reflect.TypeFor[secret.Value]():
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), path)
	case reflect.Struct:
		return s.structure(t)
	case reflect.Map:
		m := object{"type": "object", "additionalProperties": orNothing(t.Elem(), s.of(t.Elem(), path))}
		if pattern := keyPattern(t); pattern != "" {
			m["propertyNames"] = object{"pattern": pattern}
		}
		return m
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem(), path)}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		if words := wordsOf(t); words != nil {
			return object{"type": "string", "enum": words}
		}
		return object{"type": "string"}
	default: // there are only whole numbers besides
		return object{"type": "integer"}
	}
}

// orNothing lets an object of which nothing is said be left empty: "web1:".
func orNothing(t reflect.Type, schema object) object {
	if t.Kind() != reflect.Struct {
		return schema
	}
	return object{"anyOf": []object{schema, {"type": "null"}}}
}

func keyPattern(t reflect.Type) string {
	switch t.Elem() {
	case reflect.TypeFor[Host]():
		return hostPattern
	case reflect.TypeFor[Repository]():
		return repositoryPattern
	case reflect.TypeFor[fleet.PlanSpec](), reflect.TypeFor[Target](), reflect.TypeFor[fleet.Rule]():
		return namePattern
	default:
		return ""
	}
}

func (s schemaWriter) structure(t reflect.Type) object {
	reference := object{"$ref": "#/$defs/" + t.Name()}
	if _, known := s.defs[t.Name()]; known {
		return reference
	}
	properties, required := object{}, []string{}
	schema := object{"type": "object", "additionalProperties": false, "properties": properties}
	s.defs[t.Name()] = schema
	for _, f := range shapeOf(t).fields {
		property := s.of(f.of, f.name)
		if f.enum != "" {
			property["enum"] = strings.Split(f.enum, ",")
		}
		if text := cmp.Or(f.doc, descriptions()[t.Name()+"."+f.name]); text != "" {
			property["description"] = text
		}
		properties[f.name] = property
		if f.required && f.of.Kind() == reflect.String || f.name == "repositories" && t == reflect.TypeFor[fleet.PlanSpec]() || f.name == "targets" && t == reflect.TypeFor[fleet.Rule]() {
			required = append(required, f.name)
		}
	}
	if len(required) > 0 {
		schema["required"] = required
	}
	return reference
}

// wordsOf returns the words of a type that has a fixed set of them.
func wordsOf(t reflect.Type) []string {
	switch t {
	case reflect.TypeFor[fleet.Order]():
		return []string{string(fleet.Parallel), string(fleet.Sequential)}
	case reflect.TypeFor[fleet.Overlap]():
		return []string{string(fleet.OverlapSkip), string(fleet.OverlapQueue), string(fleet.OverlapReplace)}
	case reflect.TypeFor[fleet.Suspect]():
		return []string{string(fleet.SuspectHold), string(fleet.SuspectAlert), string(fleet.SuspectOff)}
	case reflect.TypeFor[fleet.Severity]():
		return []string{string(fleet.SeverityInfo), string(fleet.SeverityWarning), string(fleet.SeverityCritical)}
	case reflect.TypeFor[job.FilesCache]():
		var words []string
		for _, mode := range job.FilesCaches() {
			words = append(words, string(mode))
		}
		return words
	case reflect.TypeFor[job.Kind](): // of what follows a backup
		return []string{string(job.Prune), string(job.Compact)}
	default:
		return nil
	}
}
