package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// openAPI is as much of an OpenAPI document as the page shows.
type openAPI struct {
	Info struct{ Title, Version, Description string }
	Tags []struct{ Name, Description string }

	Paths      map[string]map[string]docsOperation
	Components struct{ Schemas map[string]docsSchema }
}

type docsOperation struct {
	Tags                              []string
	OperationID, Summary, Description string
	Parameters                        []docsParameter
	RequestBody                       *struct{ Content map[string]docsContent }
	Responses                         map[string]docsResponse

	Method, Path string `json:"-"`
}

type docsParameter struct {
	Name, In, Description string
	Required              bool
	Schema                docsSchema
}

type docsResponse struct {
	Description string
	Content     map[string]docsContent
}

type docsContent struct {
	Schema   docsSchema
	Example  json.RawMessage
	Examples map[string]struct{ Value struct{ Detail, Hint string } }
}

type docsSchema struct {
	Ref                        string `json:"$ref"`
	Type                       any
	Description, Format, Title string
	Enum                       []any
	Items                      *docsSchema
	AdditionalProperties       any
	Properties                 map[string]docsSchema
	Required                   []string
	AnyOf, OneOf               []docsSchema
}

// docsView is what the template shows.
type docsView struct {
	Title, Version, Description string
	Groups                      []docsGroup
	Schemas                     []docsNamed
}

type docsGroup struct {
	Name, Description string
	Operations        []docsOperation
}

type docsNamed struct {
	Name   string
	Fields []docsField
}

type docsField struct {
	Name, Description string
	Required          bool
	Schema            docsSchema
}

func newDocsView(document []byte) (docsView, error) {
	var api openAPI
	if err := json.Unmarshal(document, &api); err != nil {
		return docsView{}, err
	}
	view := docsView{Title: api.Info.Title, Version: api.Info.Version, Description: api.Info.Description}
	for _, tag := range api.Tags {
		view.Groups = append(view.Groups, docsGroup{Name: tag.Name, Description: tag.Description, Operations: api.tagged(tag.Name)})
	}
	for _, name := range slices.Sorted(maps.Keys(api.Components.Schemas)) {
		view.Schemas = append(view.Schemas, docsNamed{Name: name, Fields: api.Components.Schemas[name].fields()})
	}
	return view, nil
}

// tagged returns the operations of one tag by path, reading ones first.
func (api openAPI) tagged(tag string) []docsOperation {
	var found []docsOperation
	for path, methods := range api.Paths {
		for method, op := range methods {
			if slices.Contains(op.Tags, tag) {
				op.Method, op.Path = strings.ToUpper(method), Prefix+path
				found = append(found, op)
			}
		}
	}
	slices.SortFunc(found, func(x, y docsOperation) int {
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(x.Method, y.Method))
	})
	return found
}

func (s docsSchema) fields() []docsField {
	var fields []docsField
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		property := s.Properties[name]
		fields = append(fields, docsField{
			Name: name, Description: property.Description, Required: slices.Contains(s.Required, name), Schema: property,
		})
	}
	return fields
}

// Names returns the named schemas that s refers to, for links.
func (s docsSchema) Names() []string {
	var names []string
	if name, ok := strings.CutPrefix(s.Ref, schemaPrefix); ok {
		names = append(names, name)
	}
	if s.Items != nil {
		names = append(names, s.Items.Names()...)
	}
	for _, choice := range slices.Concat(s.AnyOf, s.OneOf) {
		names = append(names, choice.Names()...)
	}
	return names
}

// Words says in a few words what a value is: "list of string", "one of a, b".
func (s docsSchema) Words() string {
	if len(s.Enum) > 0 {
		texts := make([]string, len(s.Enum))
		for i, word := range s.Enum {
			texts[i] = fmt.Sprint(word)
		}
		return "one of " + strings.Join(texts, ", ")
	}
	if s.Items != nil {
		return strings.TrimSpace("list of " + s.Items.Words())
	}
	var types []string
	switch t := s.Type.(type) {
	case string:
		types = []string{t}
	case []any:
		for _, one := range t {
			types = append(types, fmt.Sprint(one))
		}
	}
	for _, choice := range s.AnyOf {
		if words := choice.Words(); words != "" {
			types = append(types, words)
		}
	}
	return strings.Join(types, " or ")
}

// Shown returns the example, indented.
func (c docsContent) Shown() string {
	var text string
	if json.Unmarshal(c.Example, &text) == nil {
		return text
	}
	var out bytes.Buffer
	if json.Indent(&out, c.Example, "", "  ") != nil {
		return string(c.Example)
	}
	return out.String()
}
