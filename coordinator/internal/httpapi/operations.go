package httpapi

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Operations is what the Borg operations API works with. It is safe for
// concurrent use, and for admins only; an error that is the caller's fault is a
// *job.Failure.
type Operations interface {
	// SubmitWith stores a job whose orders carry this passphrase in the place of
	// the repository's; an empty one is none.
	SubmitWith(ctx context.Context, by fleet.Actor, request job.Request, passphrase secret.Value) (job.Job, error)
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
	// Adopt makes a pending record of a repository by its location alone; Keep
	// makes it one like others, Abandon removes it if nothing else uses it.
	Adopt(ctx context.Context, by fleet.Actor, location string, encryption job.Encryption) (fleet.RepositoryView, error)
	Keep(ctx context.Context, by fleet.Actor, name string, passphrase secret.Value) error
	Abandon(ctx context.Context, by fleet.Actor, name string) error
}

// borgPrefix is where the Borg operations API begins, within [Prefix].
const borgPrefix = "/backups/borg"

// borgRequest is what the calls have in common, as it was sent.
type borgRequest struct {
	host       string
	repository string // a name or a location
	passphrase secret.Value
	encryption job.Encryption // of a repository that is to be made
	spec       job.Spec
	prefer     Preference
}

// borgCall is a request that was understood.
type borgCall struct {
	by         fleet.Actor
	host       string
	repository fleet.RepositoryView // without a name: the job needs none
	passphrase secret.Value         // empty: the repository's own
	spec       job.Spec
	prefer     Preference
}

// operate runs one operation of a request that names a repository.
func (a *API) operate(ctx context.Context, asked borgRequest, w waiting) (*waitedOutput, error) {
	call, err := a.prepare(ctx, asked)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.run(ctx, call, w)
}

// prepare understands a request: nothing has changed if it is refused.
func (a *API) prepare(ctx context.Context, asked borgRequest) (borgCall, error) {
	call := borgCall{by: fleet.ActorOf(ctx), passphrase: asked.passphrase, prefer: asked.prefer}
	repositories, err := a.options.Operations.Repositories(ctx) // first, as it looks at who asks
	if err != nil {
		return call, err
	}
	if err := asked.spec.Validate(); err != nil {
		return call, job.AsFailure(err)
	}
	if err := checkPassphrase(asked.passphrase); err != nil {
		return call, err
	}
	known, err := findRepository(repositories, asked.repository)
	if err != nil {
		return call, err
	}
	if call.host, err = a.operator(ctx, asked, known); err != nil {
		return call, err
	}
	if err := asked.checkInit(known); err != nil {
		return call, err
	}
	if asked.spec.Kind() == job.Init && known != nil {
		if err := a.checkElsewhere(ctx, call.host, *known); err != nil {
			return call, err
		}
	}
	call.spec = asked.spec
	if known == nil || known.Pending { // then another call is under way, which must not abandon it alone
		at := asked.repository
		if known != nil {
			at = known.Location
		}
		adopted, err := a.options.Operations.Adopt(ctx, call.by, location(at), asked.guess())
		if err != nil {
			return call, err
		}
		known = &adopted
	}
	call.repository = *known
	if asked.encryption == job.Unencrypted || call.repository.Encryption == job.Unencrypted && !call.repository.Pending {
		call.passphrase = secret.Value{} // borg would not ask for it
	}
	return call, nil
}

// guess is the encryption of a repository that is not known. Without a
// passphrase only one that is not encrypted can be opened.
func (r borgRequest) guess() job.Encryption {
	switch {
	case r.encryption != "":
		return r.encryption
	case r.passphrase.Empty():
		return job.Unencrypted
	default:
		return job.RepokeyBlake2
	}
}

// checkInit checks what a repository that is to be made must have, and settles
// its encryption; known is nil if it is not known.
func (r *borgRequest) checkInit(known *fleet.RepositoryView) error {
	if r.spec.Kind() != job.Init {
		return nil
	}
	mode := r.spec.(job.InitSpec).Encryption
	if known != nil {
		switch {
		case mode != "" && mode != known.Encryption && !known.Pending:
			return job.Fail(job.Conflict, "repository %s is declared with the encryption %s, not %s", known.Name, known.Encryption, mode).
				WithHint("leave encryption_mode out, or remove the repository here and declare it anew: borgfleet repo remove %s", known.Name)
		case known.Custody == fleet.CustodyHosts && !r.passphrase.Empty():
			return job.Fail(job.Conflict, "only its hosts may know the passphrase of repository %s", known.Name).
				WithHint("leave the passphrase out: the one that was sealed to the host is taken")
		}
	}
	if mode == "" {
		mode = job.RepokeyBlake2
		if known != nil {
			mode = known.Encryption
		}
	}
	r.encryption, r.spec = mode, job.InitSpec{Encryption: mode}
	hasOne := known != nil && known.HasPassphrase
	if mode.NeedsPassphrase() && r.passphrase.Empty() && !hasOne {
		return job.Invalid("passphrase", "encryption %s needs one", mode).WithHint("give the passphrase that the repository is to have, and keep it elsewhere too")
	}
	return nil
}

// checkElsewhere refuses to make a repository at the path of one that only other
// hosts have used: on this host that is another one, and its passphrase would take
// the place of theirs.
func (a *API) checkElsewhere(ctx context.Context, host string, known fleet.RepositoryView) error {
	if !strings.HasPrefix(known.Location, "/") {
		return nil
	}
	ended := []job.State{job.Succeeded, job.Warning}
	ours, err := a.usedBy(ctx, job.Filter{Repository: known.Name, Host: host}, ended)
	if err != nil || ours != "" {
		return err
	}
	other, err := a.usedBy(ctx, job.Filter{Repository: known.Name}, append(ended, job.Queued, job.Sent, job.Running))
	if err != nil || other == "" || other == host {
		return err
	}
	return job.Fail(job.Conflict, "%s is repository %s of host %s, and another one on %s", known.Location, known.Name, other, host).
		WithHint("declare that under a name of its own, and give that name: borgfleet repo add")
}

// usedBy returns the host of a job that the filter chooses, in one of some states;
// empty: there is none.
func (a *API) usedBy(ctx context.Context, filter job.Filter, states []job.State) (host string, err error) {
	filter.Limit = 1
	for _, filter.State = range states {
		page, err := a.options.Jobs.Jobs(ctx, filter)
		if err != nil {
			return "", err
		}
		if len(page.Jobs) > 0 {
			return page.Jobs[0].Host, nil
		}
	}
	return "", nil
}

// checkPassphrase checks that a passphrase reaches borg as it is. It is not
// repeated.
func checkPassphrase(passphrase secret.Value) error {
	plain := passphrase.Reveal()
	switch {
	case len(plain) > secret.MaxBytes:
		return job.Invalid("passphrase", "longer than %d bytes", secret.MaxBytes)
	case !utf8.Valid(plain):
		return job.Invalid("passphrase", "not UTF-8 text")
	case strings.ContainsFunc(string(plain), unicode.IsControl):
		return job.Invalid("passphrase", "has a line end or another control character").WithHint("borg would not get it as it is")
	}
	return nil
}

// operator is the host of a request: none where the coordinator does the work in
// its depot. Only a prune is about a host's archives there, if it is not said which.
func (a *API) operator(ctx context.Context, asked borgRequest, known *fleet.RepositoryView) (string, error) {
	if asked.host != "" || known == nil || !known.InDepot() || !fleet.OnDepot(asked.spec.Kind()) {
		return a.chooseHost(ctx, asked.host, "")
	}
	if asked.spec.Kind() != job.Prune {
		return "", nil
	}
	hosts, err := a.options.Hosts.Hosts(ctx)
	if err != nil {
		return "", err
	}
	if host, err := fleet.ChooseHost(hosts, ""); err == nil {
		return host, nil
	}
	return "", nil // a prefix may say which, or that it is about all
}

// reader is the host that compares archives of a repository: none where the
// coordinator does so itself.
func (a *API) reader(ctx context.Context, asked, repository, maker string) (string, error) {
	if asked == "" {
		known, err := a.options.Repositories.Repository(ctx, repository)
		if err != nil || known.InDepot() {
			return "", err
		}
	}
	return a.chooseHost(ctx, asked, maker)
}

// chooseHost is the host that was asked for, or else the one that made an archive,
// or the only one there is.
func (a *API) chooseHost(ctx context.Context, asked, maker string) (string, error) {
	if asked != "" {
		_, err := a.options.Hosts.Host(ctx, asked)
		return asked, err
	}
	hosts, err := a.options.Hosts.Hosts(ctx)
	if err != nil {
		return "", err
	}
	return fleet.ChooseHost(hosts, maker)
}

// findRepository finds a known repository by its name or its location; nil when
// a location is not known.
func findRepository(repositories []fleet.RepositoryView, asked string) (*fleet.RepositoryView, error) {
	var found []fleet.RepositoryView
	for _, repository := range repositories {
		if repository.Name == asked {
			return &repository, nil
		}
		if !repository.InDepot() && job.SameLocation(repository.Location, asked) {
			found = append(found, repository)
		}
	}
	switch {
	case len(found) == 1:
		return &found[0], nil
	case len(found) > 1: // paths, each on a host of its own
		names := make([]string, len(found))
		for i, repository := range found {
			names[i] = repository.Name
		}
		return nil, job.Invalid("repository_path", "%d repositories have this location", len(found)).
			WithHint("give the name of one: %s", strings.Join(names, ", "))
	case job.CheckRepositoryName("repository_path", asked) == nil:
		return nil, fleet.UnknownRepository(asked)
	}
	return nil, nil
}

// location is one without the slashes at its end, which change nothing.
func location(text string) string {
	if trimmed := strings.TrimRight(text, "/"); trimmed != "" {
		return trimmed
	}
	return text
}
