package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

type diffInput struct {
	ArchivePath
	Preference
	OwnPage
	Other string   `path:"other" maxLength:"200" example:"web1-2026-11-23T02:00:00" doc:"the newer archive's name"`
	Host  string   `query:"host" maxLength:"200" doc:"which host runs borg; left out: the coordinator itself if the repository is in its depot, else the one that made the archive, or the only one there is"`
	Path  []string `query:"path,explode" maxItems:"1000" doc:"only this file or directory, as the archives have it; may be given again"`
}

type verifyInput struct {
	Host string `path:"host" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" example:"web1" doc:"the host's name"`
	Preference
	Body NewVerification
}

// NewVerification is a request to verify a host.
type NewVerification struct {
	Repository   string `json:"repository,omitempty" maxLength:"200" doc:"also whether the host can read this repository"`
	AcceptMoved  bool   `json:"accept_moved,omitempty" doc:"the repository was moved, and this is where it is now; needs the role admin"`
	AcceptOlder  bool   `json:"accept_older,omitempty" doc:"the repository was rolled back, and that is right; needs the role admin"`
	RebuildCache bool   `json:"rebuild_cache,omitempty" doc:"forget borg's cache of the repository on the host"`
	Timeout      int    `json:"timeout,omitempty" minimum:"0" doc:"seconds that the job may run; 0 or left out: the coordinator's limit"`
	ExpiresIn    int    `json:"expires_in,omitempty" minimum:"0" doc:"seconds in which the host must have accepted the job, else it expires; 0 or left out: the coordinator's limit"`
}

// OwnPage is the part of a request that says whose page made a browser send it.
type OwnPage struct {
	Site string `header:"Sec-Fetch-Site" hidden:"true"`
}

// refusal refuses a request that a page of another site sent: what only reads
// elsewhere starts a job here.
func (p OwnPage) refusal() error {
	if p.Site == "cross-site" || p.Site == "same-site" {
		return job.Fail(job.NotAllowed, "the request was sent by a page of another site").
			WithHint("open it from borgfleet's own page, or use a program that is not a browser")
	}
	return nil
}

func (a *API) registerDiff() {
	op := operation{
		id: "diff-archives", method: http.MethodGet, path: "/repositories/{repo}/archives/{archive}/diff/{other}", tag: tagArchives, status: http.StatusOK,
		summary: "Compare two archives", needs: bus.Operator, answer: exampleDiff(),
		description: "Runs a job of the kind diff and waits for it; result.diff of the job has what has changed.",
		failures: []job.Failure{unknownRepository(), {Code: job.ArchiveMissing, Message: "archive web1-2026-11-22T02:00:00 does not exist", Hint: "borgfleet archive list shows the archives of a repository"},
			{Code: job.InvalidSpec, Message: "other: is the same archive", Hint: "name two different ones"}},
	}.waits(a)
	a.refuseHead(op)
	huma.Register(a.huma, op, a.diffArchives)
}

// refuseHead keeps a mere look at an address from starting a job.
func (a *API) refuseHead(op huma.Operation) {
	a.options.Mux.HandleFunc("HEAD "+Prefix+op.Path, a.unrouted)
}

func (a *API) diffArchives(ctx context.Context, in *diffInput) (*waitedOutput, error) {
	if err := in.refusal(); err != nil {
		return nil, a.problem(ctx, err)
	}
	maker := ""
	if known, err := a.options.Archives.Archive(ctx, in.Repository, in.Archive); err == nil { // else: borg may know it
		maker = known.Host
	}
	host, err := a.reader(ctx, in.Host, in.Repository, maker)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.runWaited(ctx, job.Request{Host: host, Repository: in.Repository}, job.DiffSpec{Archive: in.Archive, Other: in.Other, Paths: in.Path}, in.Preference)
}

func (a *API) registerVerify() {
	op := operation{
		id: "verify-host", method: http.MethodPost, path: "/hosts/{host}/verify", tag: tagHosts, status: http.StatusOK,
		summary: "Look whether a host can do its work", needs: bus.Operator, request: NewVerification{Repository: "web1-main"}, answer: exampleVerification(),
		description: "Runs a job of the kind verify and waits for it; result.checks of the job has what was found, and what to do where it is not good. The job is the answer also when it has failed for what it found. A host over SSH is connected to first.",
		failures:    []job.Failure{unknownHost(), unknownRepository(), unreachable()},
	}.waits(a)
	op.RequestBody.Required = false
	huma.Register(a.huma, op, a.verifyHost)
}

func (a *API) verifyHost(ctx context.Context, in *verifyInput) (*waitedOutput, error) {
	if err := a.options.Connections.TryHost(ctx, fleet.ActorOf(ctx), in.Host); err != nil {
		return nil, a.problem(ctx, err)
	}
	asked := in.Body
	request := job.Request{Host: in.Host, Repository: asked.Repository, Timeout: asked.Timeout, ExpiresIn: asked.ExpiresIn}
	spec := job.VerifySpec{AcceptMoved: asked.AcceptMoved, AcceptOlder: asked.AcceptOlder, RebuildCache: asked.RebuildCache}
	out, err := a.runWaited(ctx, request, spec, in.Preference)
	problem, failed := err.(*Problem)
	if !failed || problem.Job == "" {
		return out, err
	}
	done, readErr := a.options.Jobs.Job(ctx, problem.Job)
	if readErr != nil || done.Result == nil || len(done.Result.Checks) == 0 {
		return nil, err
	}
	return &waitedOutput{Status: http.StatusOK, Job: string(done.ID), Body: completeJob(done)}, nil
}

// runWaited runs a job that is the answer when it has ended well.
func (a *API) runWaited(ctx context.Context, request job.Request, spec job.Spec, prefer Preference) (*waitedOutput, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, a.problem(ctx, fmt.Errorf("encode spec: %w", err))
	}
	request.Kind, request.Spec = spec.Kind(), data
	submitted, err := a.options.Jobs.Submit(ctx, fleet.ActorOf(ctx), request)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.answer(ctx, submitted, prefer, waiting{body: func(done job.Job) (any, error) { return completeJob(done), nil }})
}
