package config

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Patch is what enrolment sets in agent.yaml.
type Patch struct {
	Host string `yaml:"host"`
	Data string `yaml:"data,omitempty"` // empty: left as it is
	Bus  Bus    `yaml:"bus"`
}

const fresh = `# What the borgfleet agent on this host does, and what it allows. Made by
# "borgfleet-agent enroll"; yours to change. Every other key has its default:
# see agent.yaml in borgfleet's deploy directory for all of them, above all the
# policy, which is what this host lets its coordinator ask for.

`

// Apply returns the text of a configuration file with the patch in it; what it
// does not set stays as it is, with its comments. An empty text is a new file.
func (p Patch) Apply(text []byte) ([]byte, error) {
	patch, err := yaml.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	file, err := parser.ParseBytes(text, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parse configuration: %w", err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return append([]byte(fresh), patch...), nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil || file.Docs[0].Body.Type() == ast.CommentType || file.Docs[0].Body.Type() == ast.NullType {
		return append(append(bytes.TrimRight(text, "\n"), "\n\n"...), patch...), nil
	}
	if err := p.merge(file); err != nil {
		return nil, fmt.Errorf("change configuration: %w", err)
	}
	return []byte(file.String()), p.check(file)
}

// merge replaces the patch's keys in a parsed file, or adds them.
func (p Patch) merge(file *ast.File) error {
	root, err := yaml.PathString("$")
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	return root.MergeFromReader(file, bytes.NewReader(text))
}

// check reads the result back: a file of unusual form is better left alone
// than damaged.
func (p Patch) check(file *ast.File) error {
	var got Config
	if err := yaml.Unmarshal([]byte(file.String()), &got); err != nil || got.Host != p.Host || fmt.Sprint(got.Bus) != fmt.Sprint(p.Bus) {
		return job.Fail(job.Internal, "the configuration file has a form that cannot be changed by a program").
			WithHint("move it away, enrol, and put your settings into the new one")
	}
	return nil
}
