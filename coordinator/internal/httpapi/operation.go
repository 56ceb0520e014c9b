package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Tags of operations.
const (
	tagStatus       = "Status"
	tagHosts        = "Hosts"
	tagRepositories = "Repositories"
	tagArchives     = "Archives"
	tagJobs         = "Jobs"
	tagPlans        = "Plans"
	tagAlerts       = "Alerts"
	tagEvents       = "Events"
	tagLogin        = "Login"
	tagEnrolment    = "Enrolment"
	tagPeople       = "People"
	tagTokens       = "Tokens"
	tagCredentials  = "NATS credentials"
	tagAudit        = "Audit"
	tagState        = "State"

	tagNotifications = "Notifications"

	tagBorg = "Borg operations"
)

// operation is the documented outside of one call.
type operation struct {
	id, method, path string
	tag, summary     string
	description      string
	open             bool          // anybody may call it
	needs            bus.Role      // what the caller's role must include, for the document: the service refuses; empty: viewer
	status           int           // when it went well
	answer           any           // example of what it answers; nil: nothing
	request          any           // example of its body; nil: it has none
	failures         []job.Failure // examples of how it may end otherwise, besides the common ones
}

// huma returns the operation as huma wants it. Its errors are documented here,
// as huma would document statuses that this API does not use.
func (o operation) huma(a *API) huma.Operation {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{o.tag},
		Summary: o.summary, Description: o.description, DefaultStatus: o.status,
		MaxBodyBytes:    MaxBodyBytes + 1, // huma refuses a body of the limit itself
		BodyReadTimeout: a.options.BodyTimeout,
		Responses:       map[string]*huma.Response{},
	}
	switch {
	case o.open:
		op.Security = []map[string][]string{} // not nil: none instead of the document's
	case o.needs != "":
		op.Description = strings.TrimSpace(op.Description + " Needs the role " + string(o.needs) + ".")
	}
	success := &huma.Response{Description: http.StatusText(o.status)}
	if o.answer != nil {
		success.Content = map[string]*huma.MediaType{"application/json": {Example: o.answer}}
	}
	op.Responses[strconv.Itoa(o.status)] = success
	if o.request != nil {
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Example: o.request}}}
	}
	o.documentFailures(&op, a.registry())
	return op
}

// commonFailures can end any call.
func (o operation) commonFailures() []job.Failure {
	common := []job.Failure{
		{Code: job.InvalidRequest, Message: "query.colour: unknown query parameter", Hint: Prefix + "/docs describes what is expected"},
		{Code: job.NotAllowed, Message: "borgfleet does not answer under this host name", Hint: "use localhost or 127.0.0.1"},
		{Code: job.Internal, Message: "write store: disk full", Hint: "this is a fault of borgfleet or of its machine; see the log"},
		{Code: job.Unavailable, Message: "the coordinator is shutting down", Hint: "try again"},
	}
	if o.needs != "" {
		common[1] = job.Failure{Code: job.NotAllowed, Message: "this needs the role " + string(o.needs), Hint: "ask somebody who has it"}
	}
	if !o.open {
		common = append(common, job.Failure{Code: job.NotAuthenticated, Message: "it is not known who asks", Hint: "send a token in the header Authorization: Bearer TOKEN"})
	}
	if o.request != nil {
		common = append(common, job.Failure{Code: job.TooLarge, Message: "the request's body is larger than " + strconv.Itoa(MaxBodyBytes) + " bytes"})
	}
	return common
}

func (o operation) documentFailures(op *huma.Operation, registry huma.Registry) {
	schema := registry.Schema(reflect.TypeFor[Problem](), true, "Problem")
	document := func(problem *Problem) {
		key := strconv.Itoa(problem.Status)
		if op.Responses[key] == nil {
			op.Responses[key] = &huma.Response{
				Description: problem.Title,
				Content:     map[string]*huma.MediaType{problemType: {Schema: schema, Examples: map[string]*huma.Example{}}},
			}
		}
		code := string(problem.Code)
		op.Responses[key].Content[problemType].Examples[code] = &huma.Example{Summary: code, Value: problem}
	}
	for _, failure := range append(o.commonFailures(), o.failures...) {
		document(newProblem(failure.Code.HTTPStatus(), &failure))
	}
	if o.request != nil {
		document(notJSON())
		document(newProblem(http.StatusRequestTimeout, job.Fail(job.InvalidRequest, "request body read timeout")))
	}
}

// answerNothing is the handler of a call whose only answer is that it went well.
func answerNothing[In any](a *API, do func(ctx context.Context, in *In) error) func(context.Context, *In) (*struct{}, error) {
	return func(ctx context.Context, in *In) (*struct{}, error) {
		if err := do(ctx, in); err != nil {
			return nil, a.problem(ctx, err)
		}
		return nil, nil
	}
}
