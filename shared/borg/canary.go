package borg

import (
	_ "embed"

	"github.com/borgfleet/borgfleet/shared/job"
)

// canaryScript writes the canary of a backup where only the host knows the place,
// and then becomes borg. It is a shell script for the reasons of lockScript.
//
//go:embed canary.sh
var canaryScript string

// canaryName is what the script calls itself in an error of the shell.
const canaryName = "canary"

// canaryVariable hands the content of a canary to our scripts. It is neither in
// a command line nor in the job's log, and borg does not see it.
const canaryVariable = "BORGFLEET_CANARY"

// canaryCommand returns what is run for a backup, where argv is borg's own
// command.
func canaryCommand(spec job.BackupSpec, argv []string) []string {
	if spec.Canary == nil {
		return argv
	}
	return append([]string{"/bin/sh", "-c", canaryScript, canaryName, spec.Canary.Name}, argv...)
}

// canaryOf returns the canary that a task puts into an archive, or looks for.
func canaryOf(task Task) *job.Canary {
	switch spec := task.Spec.(type) {
	case job.BackupSpec:
		return spec.Canary
	case job.RestoreTestSpec:
		return spec.Canary
	default:
		return nil
	}
}

// ownFiles is how many files of an archive are ours, and nobody's data.
func ownFiles(spec job.BackupSpec) int64 {
	if spec.Canary == nil {
		return 0
	}
	return 1
}
