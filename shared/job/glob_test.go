package job_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestMatchesGlob(t *testing.T) {
	for what, test := range map[string]struct {
		glob, name string
		match      bool
	}{
		"a star":                       {"web1-*", "web1-a", true},
		"a class":                      {"[ab]", "b", true},
		"a class turned around":        {"[!ab]", "c", true},
		"a class turned around, not":   {"[!ab]", "a", false},
		"a hat is nothing special":     {"[^a]", "c", false},
		"a hat":                        {"[^a]", "^", true},
		"a backslash":                  {`a\*`, `a\b`, true},
		"a backslash protects nothing": {`a\*`, "a*", false},
		"no glob":                      {"[", "[", false},
	} {
		t.Run(what, func(t *testing.T) {
			if got := job.MatchesGlob(test.glob, test.name); got != test.match {
				t.Errorf("%s and %s: %v", test.glob, test.name, got)
			}
		})
	}
}
