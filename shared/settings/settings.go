// Package settings reads YAML configuration files strictly: unknown keys are
// errors that show the line.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

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
		return fmt.Errorf("configuration %s: %s", path, yaml.FormatError(err, false, true))
	}
	*target = overlaid
	return nil
}

func isEmpty(file *ast.File) bool {
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType && doc.Body.Type() != ast.NullType {
			return false
		}
	}
	return true
}
