package attempt_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/attempt"
)

func TestParseKey(t *testing.T) {
	const id = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"
	tests := map[string]struct {
		text string
		ok   bool
	}{
		"good":           {id + ".3", true},
		"no number":      {id, false},
		"zero":           {id + ".0", false},
		"not a number":   {id + ".x", false},
		"not an id":      {"short.1", false},
		"path traversal": {"../../../etc.1", false},
		"empty":          {"", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			key, err := attempt.ParseKey(test.text)
			if (err == nil) != test.ok {
				t.Fatalf("key %v, error %v; want ok %v", key, err, test.ok)
			}
			if test.ok && key.String() != test.text {
				t.Errorf("%q became %q", test.text, key)
			}
		})
	}
}
