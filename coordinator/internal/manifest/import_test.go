package manifest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/cli"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// TestImportsAreIdempotent applies what is made of configurations of borgmatic,
// twice.
func TestImportsAreIdempotent(t *testing.T) {
	for _, name := range []string{"flat.yaml", "sections.yaml", "commands.yaml"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "fleet.yaml")
			var said bytes.Buffer
			code := cli.Main(t.Context(), []string{"import", "borgmatic", filepath.Join("..", "borgmatic", "testdata", name), "--host", "web1", "--out", out},
				console.Streams{In: strings.NewReader(""), Out: &said, Err: &said})
			text, err := os.ReadFile(out)
			if err != nil || code != 0 {
				t.Fatalf("%d, %v: %s", code, err, said.String())
			}
			h := newHouse(t)
			first := h.apply(t, fleet.Manifest{Text: string(text), DryRun: true})
			files := map[string]secret.Value{}
			for _, path := range first.Needs {
				if files[path], err = secret.ReadFile(path); err != nil {
					files[path] = secret.FromString("typed in") // where borgmatic ran a command for it
				}
			}
			if outcome := h.apply(t, fleet.Manifest{Text: string(text), Secrets: files}); !outcome.Applied {
				t.Errorf("not applied: %+v", outcome)
			}
			same(t, "changes of a second time", []string{}, objects(h.apply(t, fleet.Manifest{Text: string(text), Prune: true})))
		})
	}
}
