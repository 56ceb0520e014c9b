package web

import (
	"context"
	"net/http"
	"path"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// mountRow is an open mount job, as lists and its own page show it.
type mountRow struct {
	jobRow
	reader
	Spec job.MountSpec
}

// isMount reports whether a job runs that keeps something mounted.
func isMount(j job.Job) bool { return j.Kind == job.Mount && j.State == job.Running }

func (c clock) mount(j job.Job, who reader) mountRow {
	spec, _ := j.Spec.(job.MountSpec)
	return mountRow{c.job(j), who, spec}
}

// MountChip is how far it is.
func (r mountRow) MountChip() chip {
	switch {
	case r.CancelRequested:
		return chip{"idle", "stop", "unmounting"}
	case r.Mounted():
		return chip{"run", "ok", "mounted"}
	}
	return chip{"run", "run", "mounting"}
}

// What is mounted, in words.
func (r mountRow) What() string {
	if r.Spec.Archive == "" {
		return "all archives"
	}
	return r.Spec.Archive
}

// WhatURL is the page of what is mounted.
func (r mountRow) WhatURL() string {
	if r.Spec.Archive == "" {
		return archivesURL(r.Repository)
	}
	return archiveURL(r.Repository, r.Spec.Archive)
}

// IdleTime is after how long without use it is unmounted.
func (r mountRow) IdleTime() string {
	if r.Spec.Idle > 0 {
		return human.Seconds(int64(r.Spec.Idle))
	}
	return human.Duration(job.DefaultIdle)
}

// mounts reads the open mounts that a filter matches: those of an archive, if one
// is named, and those of its whole repository.
func (s *site) mounts(ctx context.Context, filter job.Filter, archive string) ([]mountRow, error) {
	filter.Kind, filter.State = job.Mount, job.Running
	found, err := s.Jobs.Jobs(ctx, filter)
	if err != nil {
		return nil, wrap("mounts", err)
	}
	var rows []mountRow
	for _, j := range found.Jobs {
		row := s.moment().mount(j, readerOf(ctx))
		if archive == "" || row.Spec.Archive == "" || row.Spec.Archive == archive {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// withoutMounts are the rows that move, which mounts do not.
func withoutMounts(rows []jobRow) (moving []jobRow) {
	for _, row := range rows {
		if !isMount(row.Job) {
			moving = append(moving, row)
		}
	}
	return moving
}

// mountProgress updates rows of the table of mounts in place, and what other
// progress there is on the page.
func mountProgress(rows []mountRow, others func(job.ID, *job.Progress) []fragment) func(job.ID, *job.Progress) []fragment {
	return func(id job.ID, progress *job.Progress) []fragment {
		for _, row := range rows {
			if row.ID == id {
				row.Progress = progress
				return []fragment{{ID: "mount-" + string(id), Template: "mount-row", Data: row, Part: "mounts"}}
			}
		}
		if others == nil {
			return nil
		}
		return others(id, progress)
	}
}

// unmount serves the button that ends a mount.
func (s *site) unmount(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, func(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
		return s.submitUmount(ctx, by, id, false)
	})
}

// submitUmount unmounts what a mount job has mounted.
func (s *site) submitUmount(ctx context.Context, by fleet.Actor, id job.ID, force bool) (job.Job, error) {
	j, err := s.Jobs.Job(ctx, id)
	if err != nil {
		return j, err
	}
	if !isMount(j) {
		return j, job.Fail(job.Conflict, "job %s keeps nothing mounted", id).WithHint("it is over, or was never a mount")
	}
	spec := job.UmountSpec{MountPoint: mountPoint(j), Force: force}
	return s.Actions.Submit(ctx, by, job.Request{Host: j.Host, Kind: job.Umount, Spec: encode(spec)})
}

func mountPoint(j job.Job) string {
	spec, _ := j.Spec.(job.MountSpec)
	return path.Clean(spec.MountPoint)
}

// confirmForce is the page before something is unmounted that is in use.
func (s *site) confirmForce(r *http.Request) (*confirmation, error) {
	id := job.ID(r.PathValue("id"))
	if _, err := job.ParseID(string(id)); err != nil {
		return nil, job.Fail(job.UnknownJob, "there is no job %q", id)
	}
	j, err := s.Jobs.Job(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if !isMount(j) {
		return nil, job.Fail(job.Conflict, "job %s keeps nothing mounted", id).WithHint("it is over, or was never a mount")
	}
	point := mountPoint(j)
	page := &confirmation{
		Title: "Unmount " + point + " by force", Action: "unmount", Nav: "/jobs", Back: jobURL(id), BackTo: j.Title(), Button: "Unmount by force",
		Happens: []string{
			"The directory " + point + " on " + j.Host + " is empty at once, also for programs that are in it.",
			"Programs that have files open there can read them to their end, or get an error. Borg ends when the last one is closed.",
			"Nothing in the repository is changed. Without force it would be unmounted as soon as nobody uses it.",
		},
		Command: s.commandsFor(r).Unmount(j, true),
	}
	page.do = func(ctx context.Context, by fleet.Actor) error {
		done, err := s.submitUmount(ctx, by, id, true)
		page.after = jobURL(done.ID)
		return err
	}
	return page, nil
}

// Unmount ends a mount.
func (c commands) Unmount(j job.Job, force bool) string {
	words := []string{"archive", "umount", mountPoint(j), "--host", j.Host}
	if force {
		words = append(words, "--force")
	}
	return c.borgfleet(words...)
}
