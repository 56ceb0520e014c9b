package busapi

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// metadata describes an endpoint for whoever asks the micro service for it.
func (e endpoint) metadata() (map[string]string, error) {
	strict := schema(e.request)
	strict["additionalProperties"] = false
	request, err := json.Marshal(strict)
	if err != nil {
		return nil, err
	}
	reply, err := json.Marshal(schema(e.reply))
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"description":     e.summary,
		"request_schema":  string(request),
		"response_schema": string(reply),
	}, nil
}

// schema returns a type as JSON Schema, without prose: names and types of the
// fields.
func schema(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return map[string]any{"type": "object"}
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(t.Elem())
	case reflect.Struct:
		properties := map[string]any{}
		addFields(properties, t)
		return map[string]any{"type": "object", "properties": properties}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schema(t.Elem())}
	case reflect.Interface:
		return map[string]any{"type": "object"}
	}
	return map[string]any{"type": scalar(t.Kind())}
}

// addFields adds a struct's fields as encoding/json names them.
func addFields(properties map[string]any, t reflect.Type) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" || !field.IsExported() && !field.Anonymous:
		case name == "" && field.Anonymous:
			addFields(properties, field.Type)
		case name != "":
			properties[name] = schema(field.Type)
		}
	}
}

func scalar(kind reflect.Kind) string {
	integers := []reflect.Kind{
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
	}
	switch {
	case kind == reflect.String:
		return "string"
	case kind == reflect.Bool:
		return "boolean"
	case slices.Contains(integers, kind):
		return "integer"
	}
	return "number"
}
