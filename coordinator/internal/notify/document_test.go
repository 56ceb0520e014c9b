package notify_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestTheAddressesInTheDocumentAreUnderstood(t *testing.T) {
	text, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, t.TempDir(), &web{})
	defer r.stop()
	found := regexp.MustCompile("`([a-z]+://[^`…]+)`").FindAllStringSubmatch(string(text), -1)
	if len(found) < 7 {
		t.Errorf("only %d addresses", len(found))
	}
	for _, match := range found {
		kind := ""
		if match[1][:5] == "https" {
			kind = "healthchecks"
		}
		if _, err := r.PutTarget(t.Context(), alice, fleet.NewTarget{Name: "x", Kind: kind, URL: secretOf(match[1])}); err != nil {
			t.Errorf("%s: %v", match[1], err)
		}
	}
}

// schema is a part of a JSON Schema.
type schema struct {
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Enum       []string          `json:"enum"`
	Defs       map[string]schema `json:"$defs"`
}

// fits checks that an object has what a schema wants, and nothing else.
func (s schema) fits(t *testing.T, what string, data json.RawMessage) map[string]json.RawMessage {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	has := slices.Sorted(maps.Keys(object))
	for _, key := range has {
		if _, known := s.Properties[key]; !known {
			t.Errorf("%s: the schema has no %q", what, key)
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(s.Required)), slices.DeleteFunc(has, func(key string) bool { return !slices.Contains(s.Required, key) })); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
	for key, property := range s.Properties {
		var text string
		if len(property.Enum) > 0 && (json.Unmarshal(object[key], &text) != nil || !slices.Contains(property.Enum, text)) {
			t.Errorf("%s: %s is %s", what, key, object[key])
		}
	}
	return object
}

func TestWebhooksAreAsTheSchemaSays(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/webhook.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}, Runs: []string{"success"}, Group: "0s"})
		id := r.raise(fleet.Condition{Plan: "daily", Labels: map[string]string{"a": "b"}, Target: "other"})
		pass(10 * time.Second)
		r.change(id, store.ResolveAlert(id, time.Now().UTC()))
		ran := run("daily", fleet.RunSucceeded)
		ran.Trigger, ran.Tasks[0].Dump, ran.Tasks[0].Job = fleet.TriggerManual, "postgres", job.NewID(time.Now())
		r.Ended(ran)
		pass(10 * time.Second)
		r.test("ops")
		posts := r.web.got()
		if len(posts) != 4 {
			t.Fatalf("%d messages", len(posts))
		}
		for _, p := range posts {
			body := s.fits(t, "body", p.body)
			var alerts, runs []json.RawMessage
			if err := json.Unmarshal(body["alerts"], &alerts); err != nil {
				t.Error(err)
			}
			if err := json.Unmarshal(body["runs"], &runs); err != nil {
				t.Error(err)
			}
			for _, alert := range alerts {
				s.Defs["alert"].fits(t, "alert", alert)
			}
			for _, ran := range runs {
				var tasks []json.RawMessage
				if err := json.Unmarshal(s.Defs["run"].fits(t, "run", ran)["tasks"], &tasks); err != nil || len(tasks) != 1 {
					t.Fatalf("%d tasks, %v", len(tasks), err)
				}
				s.Defs["task"].fits(t, "task", tasks[0])
			}
		}
	})
}
