package client

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Apply makes hosts, repositories, plans and notifications match a text. What is
// wrong with it is a *[fleet.ManifestError].
func (c *Client) Apply(ctx context.Context, asked fleet.Manifest) (fleet.ManifestOutcome, error) {
	request := struct {
		Manifest string              `json:"manifest"`
		Secrets  map[string]string   `json:"secrets,omitempty"`
		HostKeys map[string][]string `json:"host_keys,omitempty"`
		DryRun   bool                `json:"dry_run,omitempty"`
		Prune    bool                `json:"prune,omitempty"`
	}{asked.Text, map[string]string{}, asked.HostKeys, asked.DryRun, asked.Prune}
	for path, content := range asked.Secrets {
		request.Secrets[path] = string(content.Reveal())
	}
	var outcome fleet.ManifestOutcome
	return outcome, c.slowCall(ctx, http.MethodPost, "/apply", request, &outcome)
}

// Export returns the text that Apply would accept.
func (c *Client) Export(ctx context.Context) (string, error) {
	var answer struct {
		Manifest string `json:"manifest"`
	}
	err := c.call(ctx, http.MethodGet, "/export", nil, &answer)
	return answer.Manifest, err
}

// refusalOf is what a refusal says, with each fault of a manifest if it was one.
func refusalOf(failure *job.Failure, faults []refusedPart) error {
	var manifest fleet.ManifestError
	for _, part := range faults {
		if part.Location == "body.manifest" {
			manifest.Faults = append(manifest.Faults, part.ManifestFault)
		}
	}
	if len(manifest.Faults) == 0 {
		return failure
	}
	return &manifest
}

// refusedPart is one fault of a request.
type refusedPart struct {
	Location string `json:"location"`
	fleet.ManifestFault
}
