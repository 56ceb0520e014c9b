package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// maxShown bounds a value in a difference, in runes.
const maxShown = 200

// difference says in which fields two objects of one type differ. Nothing said
// and something empty are the same.
func difference(have, want any) []string {
	if reflect.DeepEqual(have, want) {
		return nil
	}
	before, after := flat(have), flat(want)
	names := slices.Collect(maps.Keys(before))
	for name := range after {
		if _, both := before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var fields []string
	for _, name := range names {
		if before[name] != after[name] {
			fields = append(fields, fmt.Sprintf("%s: %s → %s", name, shown(before[name]), shown(after[name])))
		}
	}
	return fields
}

func shown(value string) string {
	if value == "" {
		return "(none)"
	}
	if runes := []rune(value); len(runes) > maxShown {
		return string(runes[:maxShown]) + "…"
	}
	return value
}

// flat returns the fields of an object as JSON, by their paths. Empty ones are
// left out. Secrets do not show themselves.
func flat(object any) map[string]string {
	fields := map[string]string{}
	data, err := json.Marshal(object)
	var value any
	if err == nil {
		err = json.Unmarshal(data, &value)
	}
	if err != nil { // of types that are all ours: a slip that tests find
		fields["error"] = err.Error()
		return fields
	}
	flatten(fields, "", value)
	return fields
}

func flatten(fields map[string]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			flatten(fields, strings.TrimPrefix(path+"."+name, "."), inner)
		}
		return
	case nil:
		return
	case string:
		if v == "" {
			return
		}
	case bool:
		if !v {
			return
		}
	case float64:
		if v == 0 {
			return
		}
	case []any:
		if len(v) == 0 {
			return
		}
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // it came out of JSON
	fields[path] = strings.TrimSpace(text.String())
}
