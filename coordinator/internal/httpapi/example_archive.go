package httpapi

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func exampleArchive() fleet.Archive {
	listed := exampleTime().Add(time.Hour)
	return fleet.Archive{
		Archive: job.Archive{
			Name: "web1-2026-11-22T02:00:00", ID: "57df1fd2d5f0a1b36c1d0a6c2d5b3f0f7a1fbc0d9d83e1e6a1b3a1c5d7e9f0a2",
			Start: exampleTime(), Hostname: "web1", Username: "root",
		},
		Repository: "web1-main", Host: "web1", Job: exampleID, OriginalSize: 25564000000, CompressedSize: 12800000000,
		DeduplicatedSize: 181403648, NFiles: 48211, SeenAt: exampleTime(), ListedAt: &listed,
	}
}

func exampleArchives() fleet.ArchivePage {
	at := exampleTime()
	return fleet.ArchivePage{Archives: []fleet.Archive{exampleArchive()}, Total: 1, AsOf: &at}
}

func exampleFile() fleet.File {
	return fleet.File{
		Path: "etc/hosts", Name: "hosts", Type: fleet.RegularFile, Mode: "-rw-r--r--", User: "root", Group: "root", Size: 221,
		MTime: exampleTime().AddDate(0, -1, 0),
	}
}

func exampleFiles() fleet.FilePage {
	etc := exampleFile()
	etc.Path, etc.Name, etc.Type, etc.Mode, etc.Size = "etc", "etc", fleet.Directory, "drwxr-xr-x", 0
	return fleet.FilePage{
		Repository: "web1-main", Archive: exampleArchive().Name, ListedAt: exampleTime(), Path: "etc", Entry: &etc, Files: []fleet.File{exampleFile()},
	}
}

func exampleMatches() fleet.MatchPage {
	return fleet.MatchPage{
		Matches:  []fleet.Match{{Repository: "web1-main", Archive: exampleArchive().Name, Start: exampleTime(), File: exampleFile()}},
		Searched: 1,
	}
}

func exampleHistory() fleet.PathHistory {
	file := exampleFile()
	return fleet.PathHistory{
		Repository: "web1-main", Path: file.Path,
		Versions: []fleet.PathVersion{{Archive: exampleArchive().Name, Start: exampleTime(), File: &file, Changed: true}}, NotListed: 2,
	}
}

// exampleDone is a job that has ended well.
func exampleDone(spec job.Spec, result job.Result) job.Job {
	done := exampleJob()
	ended := done.StartedAt.Add(3 * time.Second)
	result.BorgVersion, result.Duration, result.Warnings = "1.2.4", 3, []string{}
	done.Kind, done.Spec, done.Plan, done.Progress = spec.Kind(), spec, "", nil
	done.State, done.FinishedAt, done.Result = job.Succeeded, &ended, &result
	done.Attempts = []job.Attempt{{Number: 1, State: job.Succeeded, SentAt: exampleTime(), StartedAt: done.StartedAt, FinishedAt: &ended}}
	return done
}

func exampleDiff() job.Job {
	return exampleDone(job.DiffSpec{Archive: exampleArchive().Name, Other: "web1-2026-11-23T02:00:00"}, job.Result{Diff: &job.Difference{
		Modified: 1, AddedBytes: 34, RemovedBytes: 12,
		Changes: []job.Change{{Path: "etc/hosts", Kind: "modified", Type: "file", Added: 34, Removed: 12}},
	}})
}

func exampleVerification() job.Job {
	return exampleDone(job.VerifySpec{}, job.Result{Checks: []job.Finding{
		{Name: "borg", Good: true, Detail: "borg 1.2.4 at /usr/bin/borg"},
		{Name: "fuse", Detail: "no /dev/fuse", Hint: "install the package fuse3, and load the kernel's module fuse"},
	}})
}
