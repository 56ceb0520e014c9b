package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// maxManifestBytes bounds a request with a manifest, and with the secrets of a
// large fleet.
const maxManifestBytes = 64 << 20

// Manifests makes everything match a text, fleet.yaml, and writes it. Safe for
// concurrent use; what is wrong with a text is a *fleet.ManifestError.
type Manifests interface {
	Apply(ctx context.Context, by fleet.Actor, asked fleet.Manifest) (fleet.ManifestOutcome, error)
	Export(ctx context.Context) (string, error)
}

// NewManifest asks to make hosts, repositories, plans and notifications match a
// text.
type NewManifest struct {
	Manifest string              `json:"manifest" doc:"the text of fleet.yaml"`
	Secrets  map[string]string   `json:"secrets,omitempty" writeOnly:"true" doc:"content of the files that the text names, by path; a dry run answers in needs which ones"`
	HostKeys map[string][]string `json:"host_keys,omitempty" doc:"public keys that SSH servers may show whose keys the text does not say, by address (user@host:port); a dry run answers in unknown which ones"`
	DryRun   bool                `json:"dry_run,omitempty" doc:"only say what would be changed"`
	Prune    bool                `json:"prune,omitempty" doc:"remove what the text's sections do not name; a section that is not in the text stays as it is"`
}

// ManifestText is what there is, as a text.
type ManifestText struct {
	Manifest string `json:"manifest"`
}

type applyInput struct{ Body NewManifest }

type applyOutput struct{ Body fleet.ManifestOutcome }

type exportOutput struct{ Body ManifestText }

const exampleManifest = "hosts:\n  web1: {}\nrepositories:\n  web1-main:\n    location: ssh://backup@store.example.net/srv/borg/web1\n    passphrase_file: /etc/borgfleet/web1.pass\n"

const applyDescription = `Everything is looked at first: what is wrong with the text is told at once, with
line and column, and then nothing has changed. Ask with dry_run first, show the
changes to a person, send what the answer needs, and apply. Repositories that
are removed are only forgotten; their data stays.`

func (a *API) registerApply() {
	apply := operation{
		id: "apply-manifest", method: http.MethodPost, path: "/apply", tag: tagPlans, status: http.StatusOK, needs: bus.Admin,
		summary: "Make hosts, repositories, plans and notifications match a file", description: applyDescription,
		request: NewManifest{Manifest: exampleManifest, DryRun: true},
		answer: fleet.ManifestOutcome{
			Changes: []fleet.ManifestChange{
				{Action: "add", Object: "host/web1", Fields: []string{}},
				{Action: "change", Object: "plan/web1-daily", Fields: []string{`schedule.cron: "0 2 * * *" → "0 3 * * *"`}},
			},
			Needs: []string{"/etc/borgfleet/web1.pass"}, Unknown: []fleet.UnknownServer{},
		},
		failures: []job.Failure{{Code: job.Conflict, Message: "a repository has got a job meanwhile: nothing was changed", Hint: "try again when it is over"}},
	}.huma(a)
	apply.MaxBodyBytes = maxManifestBytes
	huma.Register(a.huma, apply, a.apply)
	export := operation{
		id: "export-manifest", method: http.MethodGet, path: "/export", tag: tagPlans, status: http.StatusOK,
		summary:     "Write the file that POST /apply would accept",
		description: "Applied, it changes nothing. Secrets are not in it, only the files that they came from.",
		answer:      ManifestText{Manifest: exampleManifest},
	}
	huma.Register(a.huma, export.huma(a), a.export)
}

func (a *API) apply(ctx context.Context, in *applyInput) (*applyOutput, error) {
	asked := fleet.Manifest{
		Text: in.Body.Manifest, Secrets: map[string]secret.Value{}, HostKeys: in.Body.HostKeys, DryRun: in.Body.DryRun, Prune: in.Body.Prune,
	}
	for path, content := range in.Body.Secrets {
		asked.Secrets[path] = secret.FromString(content)
	}
	outcome, err := a.options.Manifests.Apply(ctx, fleet.ActorOf(ctx), asked)
	if err != nil {
		problem := a.problem(ctx, err)
		if faults, ok := errors.AsType[*fleet.ManifestError](err); ok {
			problem.Errors = manifestFaults(faults.Faults)
		}
		return nil, problem
	}
	outcome.Changes, outcome.Needs, outcome.Unknown = list(outcome.Changes), list(outcome.Needs), list(outcome.Unknown)
	for i := range outcome.Changes {
		outcome.Changes[i].Fields = list(outcome.Changes[i].Fields)
	}
	for i, server := range outcome.Unknown {
		outcome.Unknown[i].Jump = list(server.Jump)
		for k, hop := range server.Jump {
			outcome.Unknown[i].Jump[k].HostKeys = list(hop.HostKeys)
		}
	}
	return &applyOutput{Body: outcome}, nil
}

func manifestFaults(faults []fleet.ManifestFault) []Fault {
	all := make([]Fault, len(faults))
	for i, f := range faults {
		all[i] = Fault{Location: "body.manifest", Message: f.Message, Line: f.Line, Column: f.Column, Field: f.Field, Hint: f.Hint}
	}
	return all
}

func (a *API) export(ctx context.Context, _ *struct{}) (*exportOutput, error) {
	text, err := a.options.Manifests.Export(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &exportOutput{Body: ManifestText{Manifest: text}}, nil
}
