package web

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// archiveWishes is the spec of a job that looks after archives, or uses them.
func archiveWishes(spec job.Spec) []wish {
	switch spec := spec.(type) {
	case job.DeleteSpec:
		return compactWishes(wish{"Archives", spec.Archives, true}, text("All that match", spec.Glob), flag("Dry run", spec.DryRun, "nothing is deleted"))
	case job.MountSpec:
		what := text("Archive", spec.Archive)
		if spec.Archive == "" {
			what = wish{Label: "Archives", Values: []string{"all"}}
		}
		idle := human.Duration(job.DefaultIdle)
		if spec.Idle > 0 {
			idle = human.Seconds(int64(spec.Idle))
		}
		return compactWishes(what, text("On", spec.MountPoint), wish{Label: "Unmount when unused for", Values: []string{idle}})
	case job.UmountSpec:
		return compactWishes(text("Directory", spec.MountPoint), flag("Force", spec.Force, "also while it is in use"))
	case job.DiffSpec:
		return compactWishes(text("Older archive", spec.Archive), text("Newer archive", spec.Other), wish{"Only these paths", spec.Paths, true})
	case job.VerifySpec:
		return compactWishes(
			flag("Repository", spec.AcceptMoved, "may be at another place"), flag("Repository", spec.AcceptOlder, "may be older than the host knows it"),
			flag("Borg's cache", spec.RebuildCache, "made anew"))
	case job.DownloadSpec:
		path := wish{Label: "Path", Values: []string{"all"}}
		if spec.Path != "" {
			path = text("Path", spec.Path)
		}
		return compactWishes(text("Archive", spec.Archive), path, text("Format", string(spec.Format)))
	}
	return nil
}

func listWishes(spec job.ListSpec) []wish {
	return compactWishes(
		text("Files of", spec.Archive), text("Archives that begin with", spec.Prefix), text("Archives that match", spec.Glob), count("Only the newest", spec.Last),
		day("Begun since", spec.After), day("Begun before", spec.Before))
}

func day(label string, at time.Time) wish {
	if at.IsZero() {
		return wish{}
	}
	return wish{Label: label, Values: []string{at.UTC().Format("2006-01-02 15:04 UTC")}}
}
