package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// many is a text with so many hosts.
func many(hosts int) string {
	var text strings.Builder
	text.WriteString("hosts:\n")
	for i := range hosts {
		fmt.Fprintf(&text, "  web%05d: {labels: {site: fra, role: web}}\n", i)
	}
	text.WriteString("repositories:\n  main: {location: 'ssh://b@store.example.net/srv', encryption: none}\n")
	text.WriteString("plans:\n  daily: {selector: {role: web}, repositories: [main], paths: [/etc]}\n")
	return text.String()
}

// BenchmarkApply makes 10,000 hosts, and then finds that nothing changes. It says
// how much more that takes than to read the YAML alone.
func BenchmarkApply(b *testing.B) {
	text := many(10_000)
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			var node yaml.Node
			if err := yaml.Unmarshal([]byte(text), &node); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("add", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			h := newHouse(b)
			b.StartTimer()
			if outcome := h.apply(b, fleet.Manifest{Text: text}); !outcome.Applied {
				b.Fatal("nothing was applied")
			}
		}
	})
	b.Run("same", func(b *testing.B) {
		h := newHouse(b)
		h.apply(b, fleet.Manifest{Text: text})
		for b.Loop() {
			if outcome := h.apply(b, fleet.Manifest{Text: text, Prune: true}); len(outcome.Changes) != 0 {
				b.Fatal("something has changed")
			}
		}
	})
}
