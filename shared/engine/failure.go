package engine

import (
	"errors"
	"syscall"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

func failed(f *job.Failure) job.Outcome { return job.Outcome{State: job.Failed, Failure: f} }

func cancelled(why string) job.Outcome {
	return job.Outcome{State: job.Cancelled, Failure: job.Fail(job.CodeCancelled, "%s", why)}
}

// startFailure explains why borg could not be started.
func startFailure(host, binary string, err *process.StartError) *job.Failure {
	switch {
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
	switch message.Code {
	case job.DiskFull:
		return message.WithHint("free some space on %s, where the agent keeps its data", host)
	case job.PermissionDenied:
		return message.WithHint("the user that the agent runs as must be able to write to the agent's data directory")
	default:
		return message.WithHint("see the agent's log on %s", host)
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
func exitFailure(host string, exit process.Exit) *job.Failure {
	if exit.StartErrno != 0 {
		return startFailure(host, "borg", &process.StartError{Doing: exit.StartError, Err: exit.StartErrno, Program: true})
	}
	return startFailure(host, "borg", &process.StartError{Doing: "start borg", Err: errors.New(exit.StartError)})
}
