package borg_test

import (
	"fmt"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestModernWarnings: the codes of borg 1.4 for warnings, whose causes are those
// of borg's last one, never fail a job by themselves; what the job lacks does.
func TestModernWarnings(t *testing.T) {
	const report = `{"archive": {"name": "a", "id": "b", "stats": {"nfiles": 1, "original_size": 1}}}`
	for code, what := range map[int]string{
		100: "FileChangedWarning", 101: "IncludePatternNeverMatchedWarning", 102: "BackupError", 103: "BackupRaceConditionError",
		104: "BackupOSError", 105: "BackupPermissionError", 106: "BackupIOError", 107: "BackupFileNotFoundError",
		108: "BackupSymlinkParentError", 109: "BackupPathTraversalError", 110: "BackupHardlinkSourceError",
	} {
		t.Run(fmt.Sprint(code, what), func(t *testing.T) {
			said := logLine("WARNING", "borg.archiver", what, "/data/x: something about it.")
			end, _ := parse(modern(backupOf("/data")), recording{stdout: []byte(report), stderr: []byte(said), exit: borg.Exit{Code: code}}, 100)
			if end.State != job.Warning || end.Failure != nil || len(end.Result.Warnings) != 1 {
				t.Errorf("a backup: %s %v, %+v", end.State, end.Failure, end.Result)
			}
			checkFailure(t, outcomeOf(modern(job.CheckSpec{}), said, borg.Exit{Code: code}), job.IntegrityError)
			// The one that cannot be told from a warning of 1.2 is told by its words.
			checkFailure(t, outcomeOf(baseTask(neutralRoot, job.CompactSpec{}), said, borg.Exit{Code: code}), job.Internal)
		})
	}
}

// TestModernCodesOfKeys are for borg key import, which no job runs; the causes
// are told all the same, should borg say them.
func TestModernCodesOfKeys(t *testing.T) {
	for code, want := range map[int]struct {
		msgID string
		code  job.Code
	}{
		43: {"NotABorgKeyFile", job.KeyMissing}, 45: {"RepoIdMismatch", job.KeyMissing}, 46: {"UnencryptedRepo", job.InvalidSpec},
	} {
		checkFailure(t, outcomeOf(modern(job.ListSpec{}), errorLine(want.msgID, "Borg's own words."), borg.Exit{Code: code}), want.code)
		checkFailure(t, outcomeOf(modern(job.ListSpec{}), "", borg.Exit{Code: code}), want.code)
		checkFailure(t, outcomeOf(baseTask(neutralRoot, job.ListSpec{}), errorLine(want.msgID, "Borg's own words."), borg.Exit{Code: 2}), want.code)
	}
}
