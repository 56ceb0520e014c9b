package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// texts takes every manifest but one that is bad.
type texts struct{ asked fleet.Manifest }

func badText() *fleet.ManifestError {
	return &fleet.ManifestError{Faults: []fleet.ManifestFault{{Line: 3, Column: 5, Field: "hosts.web1", Message: "no", Hint: "yes"}, {Message: "neither"}}}
}

func (t *texts) Apply(_ context.Context, _ fleet.Actor, asked fleet.Manifest) (fleet.ManifestOutcome, error) {
	t.asked = asked
	if asked.Text == "bad" {
		return fleet.ManifestOutcome{}, badText()
	}
	return fleet.ManifestOutcome{Changes: []fleet.ManifestChange{{Action: "add", Object: "host/web1"}}, Applied: true}, nil
}

func (*texts) Export(context.Context) (string, error) { return "hosts: {}\n", nil }

func TestManifests(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	outcome, err := c.Apply(t.Context(), fleet.Manifest{
		Text: "hosts: {}", Secrets: map[string]secret.Value{"/x": secret.FromString("hush")}, HostKeys: map[string][]string{"a@b:22": {"key"}}, Prune: true,
	})
	if err != nil || !outcome.Applied || outcome.Changes[0].Object != "host/web1" {
		t.Errorf("%+v, %v", outcome, err)
	}
	if got := b.texts.asked; !got.Secrets["/x"].Equal(secret.FromString("hush")) || !got.Prune || got.DryRun || got.HostKeys["a@b:22"][0] != "key" {
		t.Errorf("asked %+v", got)
	}
	_, err = c.Apply(t.Context(), fleet.Manifest{Text: "bad"})
	faults, ok := errors.AsType[*fleet.ManifestError](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	if diff := cmp.Diff(badText(), faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if text, err := c.Export(t.Context()); err != nil || text != "hosts: {}\n" {
		t.Errorf("%q, %v", text, err)
	}
}
