// Package settings reads YAML configuration files strictly: unknown keys are
// errors that show the line.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load overlays target, a pointer to a struct that holds the defaults, with
// the file at path. An empty path means fallback, which may be absent; a file
// that was named must be there.
func Load[T any](path, fallback string, target *T) error {
	optional := path == ""
	if optional {
		path = fallback
	}
	data, err := os.ReadFile(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if file, err := parser.ParseBytes(data, 0); err == nil && isEmpty(file) {
		return nil // decoding nothing would reset the defaults
	}
	overlaid := *target
	decoder := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := decoder.Decode(&overlaid); err != nil {
		return fmt.Errorf("configuration %s%s", path, fault(data, err))
	}
	*target = overlaid
	return nil
}

// fault words an error of the decoder in one line, with its place.
func fault(data []byte, err error) string {
	decoding, ok := errors.AsType[yaml.Error](err)
	if !ok || decoding.GetToken() == nil {
		return ": " + err.Error()
	}
	said, line := decoding.GetMessage(), decoding.GetToken().Position.Line
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		said = "the key takes " + kindOf(wrong.DstType)
	}
	if lines := strings.Split(string(data), "\n"); line >= 1 && line <= len(lines) {
		return fmt.Sprintf(", line %d: %s: %s", line, said, strings.TrimSpace(lines[line-1]))
	}
	return ": " + said
}

// kindOf names a type as a reader of YAML knows it.
func kindOf(t reflect.Type) string {
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		return "a time, such as 90s"
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return "a whole number"
	case kind == reflect.Bool:
		return "true or false"
	case kind == reflect.Slice:
		return "a list"
	default:
		return "text"
	}
}

func isEmpty(file *ast.File) bool {
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType && doc.Body.Type() != ast.NullType {
			return false
		}
	}
	return true
}
