package engine

import (
	"errors"
	"slices"
	"syscall"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

func failed(f *job.Failure) job.Outcome { return job.Outcome{State: job.Failed, Failure: f} }

func cancelled(why string) job.Outcome {
	return job.Outcome{State: job.Cancelled, Failure: job.Fail(job.CodeCancelled, "%s", why)}
}

// checked adds what was found out beforehand to an outcome.
func checked(o job.Outcome, found []job.Finding) job.Outcome {
	if len(found) == 0 {
		return o
	}
	result := job.Result{}
	if o.Result != nil {
		result = *o.Result
	}
	result.Checks = slices.Concat(found, result.Checks)
	o.Result = &result
	for _, f := range found {
		if f.Good {
			continue
		}
		if o.State == job.Succeeded {
			o.State = job.Warning
		}
		result.Warnings = append(slices.Clone(result.Warnings), f.Name+": "+f.Detail)
	}
	return o
}

// startFailure explains why borg could not be started.
func (r *run) startFailure(binary string, err *process.StartError) *job.Failure {
	host := r.attempt.Host
	if failure, ok := errors.AsType[*job.Failure](err.Err); ok {
		return failure // the executor knows more about its host
	}
	if errors.Is(err, syscall.EPIPE) {
		return job.Fail(job.ConnectionLost, "nobody was there to read what borg on %s was going to print", host).
			WithHint("the agent there was stopped just then, or is very busy: ask again")
	}
	restore, restoring := r.attempt.Task.Spec.(job.RestoreSpec)
	switch {
	case err.Dir && restoring:
		return targetFailure(host, restore.Target, err)
	case err.Program && errors.Is(err, syscall.ENOENT):
		return job.Fail(job.BorgMissing, "there is no borg on %s: %s", host, err).
			WithHint("install it there (Debian: apt install borgbackup), or set borg.binary in the agent's configuration")
	case err.Program && errors.Is(err, syscall.ENOEXEC):
		return job.Fail(job.BorgMissing, "%s is not a program that %s can run", binary, host).
			WithHint("install borg for the host's architecture, or set borg.binary in the agent's configuration")
	case err.Program && errors.Is(err, syscall.EACCES):
		return job.Fail(job.PermissionDenied, "%s may not be run on %s: %s", binary, host, err).
			WithHint("make it executable for the user that the agent runs as")
	}
	message := job.Fail(startCode(err), "borg could not be started on %s: %s", host, err)
	if errors.Is(err, syscall.EROFS) {
		return message.WithHint("the file system of the agent's data directory on %s is read-only: see the kernel's log there for why, and make it writable", host)
	}
	switch message.Code {
	case job.DiskFull:
		return message.WithHint("free some space on %s, where the agent keeps its data", host)
	case job.PermissionDenied:
		return message.WithHint("the user that the agent runs as must be able to write to the agent's data directory")
	default:
		return message.WithHint("see the agent's log on %s", host)
	}
}

// targetFailure explains why nothing can be restored to a directory.
func targetFailure(host, target string, err error) *job.Failure {
	switch {
	case errors.Is(err, syscall.ENOTEMPTY):
		return job.Fail(job.TargetNotEmpty, "there is something in %s on %s already", target, host).
			WithHint("restore to a new directory; or with overwrite (--overwrite): files of the same name are then replaced, all others stay; or with keep_existing (--keep-existing): they stay, too")
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return job.Fail(job.InvalidSpec, "%s on %s is not a directory: a part of it is a file, or has just become a symbolic link", target, host).
			WithHint("restore to another directory")
	}
	failure := job.Fail(startCode(err), "%s on %s cannot be restored to: %s", target, host, err)
	switch failure.Code {
	case job.DiskFull:
		return failure.WithHint("free space there, or restore to another disk")
	case job.PermissionDenied:
		return failure.WithHint("run the agent as a user who may write there, or restore to another directory")
	default:
		return failure.WithHint("look at that directory on %s, and at the agent's log", host)
	}
}

func startCode(err error) job.Code {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return job.DiskFull
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return job.PermissionDenied
	default:
		return job.Internal
	}
}

// exitFailure is startFailure for a failed start that was found afterwards.
func (r *run) exitFailure(exit process.Exit) *job.Failure {
	why := &process.StartError{Doing: "start borg", Err: errors.New(exit.StartError)}
	if exit.StartErrno != 0 {
		why = &process.StartError{Doing: exit.StartError, Err: exit.StartErrno, Program: !exit.StartDir, Dir: exit.StartDir}
	}
	return r.startFailure("borg", why)
}
