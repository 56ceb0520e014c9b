package dispatch

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// actions are the names under which the audit knows what borg does.
var actions = map[job.Kind]string{
	job.Init:        "borg.repository.init",
	job.Backup:      "borg.archive.create",
	job.List:        "borg.archives.list",
	job.Info:        "borg.repository.info",
	job.Restore:     "borg.archive.extract",
	job.Delete:      "borg.archive.delete",
	job.Prune:       "borg.repository.prune",
	job.Compact:     "borg.repository.compact",
	job.Check:       "borg.repository.check",
	job.Mount:       "borg.archive.mount",
	job.Umount:      "borg.archive.umount",
	job.Diff:        "borg.archive.diff",
	job.BreakLock:   "borg.repository.break_lock",
	job.Verify:      "borg.host.verify",
	job.KeyExport:   "borg.repository.key_export",
	job.Download:    "borg.archive.download",
	job.TestRestore: "borg.archive.test",
}

// auditControl notes that somebody cancelled a job or tried it again.
func (s *Service) auditControl(by fleet.Actor, action string, j job.Job) store.Change {
	return store.AppendAudit(fleet.AuditEntry{
		At: s.now(), By: by.Name, From: by.From, Action: action, Object: "job/" + string(j.ID), Outcome: "done",
		Detail: purpose(j),
	})
}

// purpose is a job in a few words: "backup of web1 to main", or "prune of main for
// web1" of what the coordinator does in its depot.
func purpose(j job.Job) string {
	switch {
	case j.Repository == "":
		return j.Title()
	case j.For != "":
		return string(j.Kind) + " of " + j.Repository + " for " + j.For
	case j.Host == fleet.LocalHost && fleet.OnDepot(j.Kind):
		return string(j.Kind) + " of " + j.Repository
	}
	return j.Title() + " to " + j.Repository
}

// auditRequest notes that somebody asked for something of borg.
func auditRequest(by fleet.Actor, j job.Job) store.Change {
	entry := auditEntry(j)
	entry.At, entry.By, entry.From, entry.Outcome = j.SubmittedAt, by.Name, by.From, "requested"
	return store.AppendAudit(entry)
}

// auditEnd notes how that ended. It belongs into the transaction that ends the
// job, so that there is one such entry of each.
func auditEnd(j job.Job) store.Change {
	entry := auditEntry(j)
	entry.At, entry.By, entry.Outcome = *j.FinishedAt, j.SubmittedBy, string(j.State)
	if j.Failure != nil {
		entry.Detail += ", " + string(j.Failure.Code)
	}
	return store.AppendAudit(entry)
}

func auditEntry(j job.Job) fleet.AuditEntry {
	object := "repository/" + j.Repository
	if j.Repository == "" {
		object = "host/" + j.Host
	}
	host := j.Host
	if j.For != "" {
		host += " for " + j.For
	}
	return fleet.AuditEntry{Action: actions[j.Kind], Object: object, Detail: "host " + host + ", job " + string(j.ID)}
}
