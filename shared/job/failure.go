package job

import (
	"errors"
	"fmt"
	"net/http"
)

// Code names the cause of a failure, for programs. Codes are only ever added.
type Code string

// Codes with which a job can fail (contract.md).
const (
	BorgMissing       Code = "borg_missing"
	BorgUnsupported   Code = "borg_unsupported"
	RepositoryMissing Code = "repository_missing"
	RepositoryExists  Code = "repository_exists"
	RepositoryInvalid Code = "repository_invalid"
	RepositoryLocked  Code = "repository_locked"
	PassphraseWrong   Code = "passphrase_wrong"
	KeyMissing        Code = "key_missing"
	ArchiveMissing    Code = "archive_missing"
	ArchiveExists     Code = "archive_exists"
	PathMissing       Code = "path_missing"
	PermissionDenied  Code = "permission_denied"
	DiskFull          Code = "disk_full"
	QuotaExceeded     Code = "quota_exceeded"
	ConnectionLost    Code = "connection_lost"
	HostUnreachable   Code = "host_unreachable"
	HostKeyChanged    Code = "host_key_changed"
	HookFailed        Code = "hook_failed"
	CodeCancelled     Code = "cancelled"
	Interrupted       Code = "interrupted"
	Timeout           Code = "timeout"
	InvalidSpec       Code = "invalid_spec"
	RefusedByHost     Code = "refused_by_host"
	IntegrityError    Code = "integrity_error"
	TargetNotEmpty    Code = "target_not_empty"   // restore, mount: there is something there already
	MountPointBusy    Code = "mount_point_busy"   // umount: in use; mount: something is mounted there
	NotMounted        Code = "not_mounted"        // umount: nothing is
	FuseMissing       Code = "fuse_missing"       // mount: the host cannot
	NeedsConfirmation Code = "needs_confirmation" // prune: more would go than may go at once
	RepositoryFrozen  Code = "repository_frozen"  // depot: its archives are not those that were recorded
	Skipped           Code = "skipped"            // backup: a hook on the host asked for that; cancelled, and no fault
	RestoreMismatch   Code = "restore_mismatch"   // restore-test: what came back is not what was stored
	Internal          Code = "internal"
)

// Codes with which a request is refused before there is a job.
const (
	InvalidRequest    Code = "invalid_request"    // malformed JSON, unknown field, bad value
	UnknownHost       Code = "unknown_host"       // no host of that name
	UnknownRepository Code = "unknown_repository" // no repository of that name
	UnknownJob        Code = "unknown_job"        // no job with that id
	UnknownKind       Code = "unknown_kind"       // not a job kind
	UnknownPlan       Code = "unknown_plan"       // no plan of that name
	Conflict          Code = "conflict"           // the name is taken, or the state forbids it
	TooLarge          Code = "too_large"          // the request is over the size limit
	NotAllowed        Code = "not_allowed"        // the caller may not do this
	Unavailable       Code = "unavailable"        // the coordinator cannot do this now
	NotAuthenticated  Code = "not_authenticated"  // who asks is not known: no or wrong credentials
	TooMany           Code = "too_many_requests"  // slower, please
	NotFound          Code = "not_found"          // no such user, token or other thing
	NotListed         Code = "not_listed"         // the files of an archive are not known here: list it first
)

var httpStatus = map[Code]int{
	InvalidRequest:    http.StatusBadRequest,
	InvalidSpec:       http.StatusUnprocessableEntity,
	UnknownKind:       http.StatusUnprocessableEntity,
	UnknownHost:       http.StatusNotFound,
	UnknownRepository: http.StatusNotFound,
	UnknownJob:        http.StatusNotFound,
	UnknownPlan:       http.StatusNotFound,
	Conflict:          http.StatusConflict,
	TooLarge:          http.StatusRequestEntityTooLarge,
	NotAllowed:        http.StatusForbidden,
	Unavailable:       http.StatusServiceUnavailable,
	NotAuthenticated:  http.StatusUnauthorized,
	TooMany:           http.StatusTooManyRequests,
	NotFound:          http.StatusNotFound,
	NotListed:         http.StatusConflict,

	RepositoryMissing: http.StatusNotFound,
	ArchiveMissing:    http.StatusNotFound,
	PathMissing:       http.StatusNotFound,
	NotMounted:        http.StatusNotFound,
	RepositoryExists:  http.StatusConflict,
	ArchiveExists:     http.StatusConflict,
	TargetNotEmpty:    http.StatusConflict,
	MountPointBusy:    http.StatusConflict,
	NeedsConfirmation: http.StatusConflict,
	RepositoryFrozen:  http.StatusConflict,
	CodeCancelled:     http.StatusConflict,
	Skipped:           http.StatusConflict,
	RestoreMismatch:   http.StatusUnprocessableEntity,
	RepositoryInvalid: http.StatusUnprocessableEntity,
	IntegrityError:    http.StatusUnprocessableEntity,
	PassphraseWrong:   http.StatusForbidden,
	KeyMissing:        http.StatusForbidden,
	PermissionDenied:  http.StatusForbidden,
	RefusedByHost:     http.StatusForbidden,
	RepositoryLocked:  http.StatusLocked,
	DiskFull:          http.StatusInsufficientStorage,
	QuotaExceeded:     http.StatusInsufficientStorage,
	ConnectionLost:    http.StatusBadGateway,
	HostKeyChanged:    http.StatusBadGateway,
	HostUnreachable:   http.StatusServiceUnavailable,
	BorgMissing:       http.StatusServiceUnavailable,
	BorgUnsupported:   http.StatusServiceUnavailable,
	FuseMissing:       http.StatusServiceUnavailable,
	Timeout:           http.StatusGatewayTimeout,
}

// retryable holds the causes that may be gone at the next try.
var retryable = map[Code]bool{
	RepositoryLocked: true, ConnectionLost: true, HostUnreachable: true, Interrupted: true,
}

// HTTPStatus returns the HTTP status, also used in the bus's error header,
// that tells this cause; of a job's failure, where a call waits for the job. What
// is nobody's fault that can be told is 500.
func (c Code) HTTPStatus() int {
	if status, ok := httpStatus[c]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// Retryable reports whether another attempt may succeed without a person.
func (c Code) Retryable() bool { return retryable[c] }

// Failure is what a user sees when something did not work: why, in a sentence,
// and what to do about it. It is the error type of every edge.
type Failure struct {
	Code      Code   `json:"code" doc:"cause, for programs" example:"passphrase_wrong"`
	Message   string `json:"message" doc:"what went wrong, in a sentence"`
	Hint      string `json:"hint" doc:"what to do about it; may be empty"`
	Retryable bool   `json:"retryable" doc:"whether another attempt may succeed by itself"`
}

// Fail returns a Failure whose Retryable follows from its code.
func Fail(code Code, format string, args ...any) *Failure {
	return &Failure{Code: code, Message: fmt.Sprintf(format, args...), Retryable: code.Retryable()}
}

// Invalid returns an invalid_request failure about one field.
func Invalid(field, format string, args ...any) *Failure {
	return Fail(InvalidRequest, "%s: %s", field, fmt.Sprintf(format, args...))
}

// WithHint sets the hint and returns f, for use while f is being made.
func (f *Failure) WithHint(format string, args ...any) *Failure {
	f.Hint = fmt.Sprintf(format, args...)
	return f
}

// Error implements error: message, then hint.
func (f *Failure) Error() string {
	if f.Hint == "" {
		return f.Message
	}
	return f.Message + " (" + f.Hint + ")"
}

// AsFailure returns the Failure in err's chain. Any other error becomes an
// internal failure that carries its text.
func AsFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return Fail(Internal, "%s", err).WithHint("this is a fault of borgfleet or of its machine; see the log")
}
