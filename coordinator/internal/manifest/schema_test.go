package manifest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
)

var update = flag.Bool("update", false, "write deploy/fleet.schema.json anew")

// TestPublishedSchemaIsTheTypes fails when deploy/fleet.schema.json is stale: run
// it with -update then.
func TestPublishedSchemaIsTheTypes(t *testing.T) {
	path := filepath.Join("..", "..", "..", "deploy", "fleet.schema.json")
	want, err := manifest.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got) {
		t.Errorf("deploy/fleet.schema.json is stale (%v): go test ./coordinator/internal/manifest -run PublishedSchema -update", err)
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	data, err := manifest.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	keys := map[string]map[string]any{}
	for name, property := range schema.Properties {
		keys["Document."+name] = property
	}
	for name, def := range schema.Defs {
		for key, property := range def.Properties {
			keys[name+"."+key] = property
		}
	}
	for name, property := range keys {
		if text, _ := property["description"].(string); text == "" {
			t.Errorf("%s is not described", name)
		}
	}
	if len(keys) < 100 {
		t.Errorf("only %d keys", len(keys))
	}
}
