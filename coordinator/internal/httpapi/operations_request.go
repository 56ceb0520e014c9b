package httpapi

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// BorgBody is what the bodies of the Borg operations API have in common.
type BorgBody struct {
	Host           string `json:"host,omitempty" maxLength:"200" doc:"which host runs borg; left out: the only one there is, and none for what the coordinator does itself in its depot"`
	RepositoryPath string `json:"repository_path" minLength:"1" maxLength:"4096" doc:"a known repository's name, or a location: an absolute path on the host, or ssh://user@host:port/path"`
	Passphrase     string `json:"passphrase,omitempty" maxLength:"4096" writeOnly:"true" doc:"the repository's; left out: the one that is known here"`
}

func (b BorgBody) request(prefer Preference, spec job.Spec) borgRequest {
	return borgRequest{
		host: b.Host, repository: b.RepositoryPath, passphrase: secret.FromString(b.Passphrase), spec: spec, prefer: prefer,
	}
}

// BorgQuery is what the calls without a body have in common.
type BorgQuery struct {
	Preference
	OwnPage
	Host             string `query:"host" maxLength:"200" doc:"which host runs borg; left out: the only one there is, and none for what the coordinator does itself in its depot"`
	RepositoryPath   string `query:"repository_path" required:"true" minLength:"1" maxLength:"4096" doc:"a known repository's name, or a location: an absolute path on the host, or ssh://user@host:port/path"`
	Passphrase       string `query:"passphrase" maxLength:"4096" doc:"the repository's; left out: the one that is known here. It is never logged here, but proxies log addresses: better give it in the header X-Borg-Passphrase"`
	HeaderPassphrase string `header:"X-Borg-Passphrase" maxLength:"4096" doc:"the repository's passphrase, in the place of the query's"`
}

// operateQuery runs one operation of a request without a body.
func (a *API) operateQuery(ctx context.Context, in *BorgQuery, spec job.Spec, body func(job.Job) (any, error)) (*waitedOutput, error) {
	asked, err := in.request(spec)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.operate(ctx, asked, waiting{body: body})
}

func (q *BorgQuery) request(spec job.Spec) (borgRequest, error) {
	if err := q.refusal(); err != nil {
		return borgRequest{}, err
	}
	passphrase := q.HeaderPassphrase
	switch {
	case passphrase == "":
		passphrase = q.Passphrase
	case q.Passphrase != "" && q.Passphrase != passphrase:
		return borgRequest{}, job.Invalid("query.passphrase", "differs from the header X-Borg-Passphrase").WithHint("give one of them")
	}
	return borgRequest{
		host: q.Host, repository: q.RepositoryPath, passphrase: secret.FromString(passphrase), spec: spec, prefer: q.Preference,
	}, nil
}

// registerOperations adds the Borg operations API.
func (a *API) registerOperations() {
	a.registerBorgRepository()
	a.registerBorgArchives()
	a.registerBorgMounts()
}

var _ huma.Resolver = (*Preference)(nil)
