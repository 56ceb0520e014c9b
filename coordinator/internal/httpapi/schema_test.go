package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
)

func resolve(document object, ref string) any {
	return at(document, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
}

// conforms checks a value against a schema: the part of JSON Schema that the
// document uses.
func conforms(document object, schema, value any, path string) (faults []string) {
	s, _ := schema.(object)
	if s == nil {
		return []string{path + ": no schema"}
	}
	if ref, ok := s["$ref"].(string); ok {
		return conforms(document, resolve(document, ref), value, path)
	}
	if choices, ok := s["anyOf"].([]any); ok {
		for _, choice := range choices {
			if len(conforms(document, choice, value, path)) == 0 {
				return nil
			}
		}
		return []string{fmt.Sprintf("%s: %v fits none of the choices", path, value)}
	}
	if !fitsType(s["type"], value) {
		return []string{fmt.Sprintf("%s: %v is not %v", path, value, s["type"])}
	}
	if words, ok := s["enum"].([]any); ok && !slices.Contains(words, value) {
		faults = append(faults, fmt.Sprintf("%s: %v is none of %v", path, value, words))
	}
	switch v := value.(type) {
	case object:
		faults = append(faults, conformsObject(document, s, v, path)...)
	case []any:
		for i, item := range v {
			faults = append(faults, conforms(document, s["items"], item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return faults
}

func conformsObject(document, s, value object, path string) (faults []string) {
	for _, name := range asList(s["required"]) {
		if _, ok := value[name.(string)]; !ok {
			faults = append(faults, fmt.Sprintf("%s.%v: is missing", path, name))
		}
	}
	for name, inner := range value {
		schema := at(s, "properties", name)
		if schema == nil {
			schema, _ = s["additionalProperties"].(object)
			if schema, _ := schema.(object); schema == nil {
				faults = append(faults, fmt.Sprintf("%s.%s: is not documented", path, name))
				continue
			}
		}
		faults = append(faults, conforms(document, schema, inner, path+"."+name)...)
	}
	return faults
}

func fitsType(types, value any) bool {
	list, ok := types.([]any)
	if !ok {
		list = []any{types}
	}
	for _, one := range list {
		number, isNumber := value.(float64)
		_, isString := value.(string)
		_, isBool := value.(bool)
		_, isObject := value.(object)
		_, isList := value.([]any)
		fits := map[any]bool{
			"null": value == nil, "string": isString, "boolean": isBool, "object": isObject, "array": isList,
			"number": isNumber, "integer": isNumber && number == float64(int64(number)),
		}
		if fits[one] {
			return true
		}
	}
	return false
}
