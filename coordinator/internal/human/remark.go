package human

import "github.com/borgfleet/borgfleet/shared/job"

// Remark is the most telling half sentence about a job in a list: why it ended
// as it did, what it brought, or what it waits for.
func Remark(j job.Job) string {
	switch r := j.Result; {
	case !j.State.Terminal():
		return j.Reason
	case j.Failure != nil && j.State != job.Cancelled:
		return j.Failure.Message
	case r == nil:
		return ""
	case j.State == job.Warning && len(r.Warnings) > 0:
		if n := len(r.Warnings) + r.WarningsOmitted; n > 1 {
			return Plural(n, "warning")
		}
		return r.Warnings[0]
	case j.Kind == job.Backup:
		return Bytes(r.OriginalSize) + ", " + Bytes(r.DeduplicatedSize) + " new"
	case j.Kind == job.Restore && r.Target != "":
		return "into " + r.Target
	case j.Kind == job.Compact && r.FreedBytes != nil:
		return Bytes(*r.FreedBytes) + " freed"
	}
	return ""
}
