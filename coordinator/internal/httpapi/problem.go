package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Problem is an RFC 9457 problem document: how every error of the API looks.
type Problem struct {
	Type      string   `json:"type" doc:"always about:blank: code is what tells problems apart" example:"about:blank"`
	Title     string   `json:"title" doc:"the HTTP status in words" example:"Not Found"`
	Status    int      `json:"status" doc:"the HTTP status" example:"404"`
	Detail    string   `json:"detail" doc:"what went wrong, in a sentence" example:"there is no host \"web9\""`
	Code      job.Code `json:"code" doc:"cause, for programs; codes are only ever added" example:"unknown_host"`
	Hint      string   `json:"hint" doc:"what to do about it; may be empty" example:"GET /hosts lists the hosts"`
	Retryable bool     `json:"retryable" doc:"whether the same request may succeed later by itself"`
	Job       job.ID   `json:"job,omitempty" doc:"the job that failed, if the call waited for one" example:"01JD9X7Q2M4T6W8Y0ABCDEFGHJ"`
	Errors    []Fault  `json:"errors,omitempty" doc:"each fault of a request that is not valid"`

	size *int64 // of what was to be read behind its end
}

// Fault is one thing that is wrong with a request. It never carries a value
// that may be a secret.
type Fault struct {
	Location string `json:"location" doc:"where: a path into body, query, path or header" example:"body.max_attempts"`
	Message  string `json:"message" doc:"what is wrong there" example:"expected number <= 10"`
	Line     int    `json:"line,omitempty" doc:"of a manifest: the line"`
	Column   int    `json:"column,omitempty" doc:"of a manifest: the column, from 1"`
	Field    string `json:"field,omitempty" doc:"of a manifest: the path of the key" example:"plans.daily.schedule.cron"`
	Hint     string `json:"hint,omitempty" doc:"what to do about it"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

// retryAfter is what a caller who was too fast is told to wait, in seconds.
const retryAfter = "60"

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	header := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests:
		header.Set("Retry-After", retryAfter)
	}
	if p.size != nil {
		header.Set("Content-Range", fmt.Sprintf("bytes */%d", *p.size))
	}
	return header
}

const problemType = "application/problem+json"

func newProblem(status int, failure *job.Failure) *Problem {
	return &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Detail: failure.Message, Code: failure.Code, Hint: failure.Hint,
		Retryable: failure.Retryable || failure.Code == job.Unavailable || failure.Code == job.TooMany,
	}
}

// adoptProblems makes huma answer with problems of ours, and take field names
// as they are written in the document only. Both are settings of huma's
// package, not of one API.
var adoptProblems = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.NewError = requestProblem
})

// requestProblem is called by huma for a request that it does not take.
func requestProblem(status int, message string, errs ...error) huma.StatusError {
	switch {
	case status == http.StatusRequestEntityTooLarge:
		return newProblem(status, job.Fail(job.TooLarge, "the request's body is larger than %d bytes", MaxBodyBytes))
	case status == http.StatusUnsupportedMediaType:
		return notJSON()
	case status == http.StatusUnprocessableEntity:
		status = http.StatusBadRequest // 422 is kept for specs, which the bus tells apart as well
	case status >= http.StatusInternalServerError:
		return newProblem(status, job.Fail(job.Internal, "%s", message).WithHint("see the coordinator's log"))
	}
	problem := newProblem(status, job.Fail(job.InvalidRequest, "%s", message).WithHint("%s/docs describes what is expected", Prefix))
	problem.Errors = faults(errs)
	if len(problem.Errors) > 0 {
		problem.Detail = sentence(problem.Errors)
	}
	return problem
}

func notJSON() *Problem {
	return newProblem(http.StatusUnsupportedMediaType, job.Fail(job.InvalidRequest, "the request's body is not declared to be JSON").
		WithHint("send the header Content-Type: application/json"))
}

func faults(errs []error) []Fault {
	var list []Fault
	for _, err := range errs {
		detailer, ok := err.(huma.ErrorDetailer)
		switch {
		case ok:
			detail := detailer.ErrorDetail()
			list = append(list, Fault{Location: detail.Location, Message: detail.Message})
		case err != nil:
			list = append(list, Fault{Message: err.Error()})
		}
	}
	return list
}

// maxSentenceFaults bounds the sentence; all faults are in the list beside it.
const maxSentenceFaults = 5

func sentence(list []Fault) string {
	var parts []string
	for _, fault := range list[:min(len(list), maxSentenceFaults)] {
		parts = append(parts, strings.TrimPrefix(fault.Location+": "+fault.Message, ": "))
	}
	if more := len(list) - maxSentenceFaults; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}

// problem turns a service's error into an answer, and logs it when it is not
// the caller's fault.
func (a *API) problem(ctx context.Context, err error) *Problem {
	if _, ok := errors.AsType[*job.Failure](err); !ok && ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, job.Fail(job.Unavailable, "the request was given up before it was answered"))
	}
	failure := job.AsFailure(err)
	status := failure.Code.HTTPStatus()
	if status == http.StatusInternalServerError {
		a.logger.Error("request ended with an error", "err", err)
	}
	return newProblem(status, failure)
}

// writeProblem answers outside huma.
func writeProblem(w http.ResponseWriter, problem *Problem) {
	maps.Copy(w.Header(), problem.GetHeaders())
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(problem.Status)
	_ = encodeJSON(w, problem) // nobody is left to tell
}

// jsonFormat is huma's JSON with errors that say where.
func jsonFormat() huma.Format {
	return huma.Format{Marshal: encodeJSON, Unmarshal: decodeJSON}
}

func encodeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func decodeJSON(data []byte, target any) error {
	if !utf8.Valid(data) { // what is not would be replaced, and stand for something else then
		return errors.New("the JSON is not UTF-8")
	}
	err := json.Unmarshal(data, target)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("malformed JSON at byte %d: %w", syntax.Offset, err)
	}
	return err
}
