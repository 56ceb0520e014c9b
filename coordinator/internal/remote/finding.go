package remote

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/mount"
)

// Bounds of what counts as well.
const (
	littleSpace   = 1 << 30 // bytes: with less borg's cache may not fit
	littlePercent = 5
	maxAhead      = time.Minute // difference of clocks
	oldRun        = 24 * time.Hour
)

// Findings finds out whether the host can do its work. It is what a verify job
// begins with.
func (h *Host) Findings(ctx context.Context) []job.Finding {
	facts, said, failure := h.look(ctx, "verify")
	if failure != nil {
		return []job.Finding{bad("login", failure)}
	}
	found := []job.Finding{{
		Name: "login", Good: true,
		Detail: fmt.Sprintf("%s on %s (%s), home directory %s", facts.User, facts.OS, facts.Arch, facts.Home),
	}}
	found = append(found, h.shellFinding(said), h.dirFinding(facts, said))
	if facts.BorgFailure != nil {
		found = append(found, bad("borg", facts.BorgFailure))
	} else {
		found = append(found, job.Finding{Name: "borg", Good: true, Detail: fmt.Sprintf("borg %s at %s", facts.Borg.Text, facts.BorgPath)})
	}
	return append(found, h.clockFinding(facts), h.spaceFinding(facts), fuseFinding(said), h.runsFinding(ctx))
}

func bad(name string, failure *job.Failure) job.Finding {
	return job.Finding{Name: name, Detail: failure.Message, Hint: failure.Hint}
}

func (h *Host) shellFinding(said answers) job.Finding {
	switch {
	case said.get("say") == "":
		return bad("shell", job.AsFailure(h.refused(answers{{"refused", "printf"}})))
	case said.get("setsid") == "":
		return job.Finding{
			Name: "shell", Detail: "/bin/sh, and no setsid: programs may not outlive the connection that they were started over",
			Hint: "install setsid there (util-linux or busybox)",
		}
	}
	return job.Finding{Name: "shell", Good: true, Detail: "/bin/sh and " + shown(said.get("setsid"))}
}

func (h *Host) dirFinding(facts Facts, said answers) job.Finding {
	if room := said.get("room"); room != "done" {
		_, failure := h.unwritable(facts.Dir, room)
		return bad("directory", failure)
	}
	return job.Finding{Name: "directory", Good: true, Detail: facts.Dir + " can be written to"}
}

func (h *Host) clockFinding(facts Facts) job.Finding {
	which, off := "ahead of", facts.ClockAhead.Round(time.Millisecond)
	if off < 0 {
		which = "behind"
	}
	found := job.Finding{Name: "clock", Good: off.Abs() <= maxAhead, Detail: fmt.Sprintf("the host's clock is %s %s the coordinator's", off.Abs(), which)}
	if !found.Good {
		found.Hint = "set both clocks, by chrony or systemd-timesyncd: archives and jobs bear the host's times"
	}
	return found
}

func (h *Host) spaceFinding(facts Facts) job.Finding {
	found := job.Finding{
		Name: "space", Good: facts.FreeBytes >= littleSpace && facts.FreeBytes >= facts.TotalBytes/100*littlePercent,
		Detail: fmt.Sprintf("%.1f GiB of %.1f GiB free under %s, where borg keeps its cache", gibibytes(facts.FreeBytes), gibibytes(facts.TotalBytes), facts.Dir),
	}
	if !found.Good {
		found.Hint = fmt.Sprintf("free some, or keep it on another file system (borgfleet host set %s --dir DIR): with less than 1 GiB or %d %% borg's cache may not fit", h.options.Host, littlePercent)
	}
	return found
}

func gibibytes(n uint64) float64 { return float64(n) / (1 << 30) }

// fuseFinding tells whether borg can mount on the host.
func fuseFinding(said answers) job.Finding {
	found := job.Finding{Name: "fuse"}
	binding := mount.Binding(said.get("debug"))
	switch {
	case said.get("device") == "":
		found.Detail, found.Hint = "there is no /dev/fuse", "Debian: apt install fuse3, then modprobe fuse; a container needs the device given to it"
	case said.get("tool") == "":
		found.Detail, found.Hint = "there is no fusermount3", "Debian: apt install fuse3"
	case binding == "":
		found.Detail = "borg has no Python binding for FUSE"
		found.Hint = "Debian: apt install python3-pyfuse3; borg as a single binary needs one of its own that ends in -fuse3 or has it built in"
	default:
		found.Good, found.Detail = true, fmt.Sprintf("/dev/fuse, %s, %s", shown(said.get("tool")), binding)
	}
	return found
}

// runsFinding looks for what earlier jobs have left: programs that run and that
// nobody follows, and old directories.
func (h *Host) runsFinding(ctx context.Context) job.Finding {
	all, err := h.all(ctx, "aged", oldRun)
	if err != nil {
		return bad("runs", h.failed(err))
	}
	var living []string
	old := 0
	h.mu.Lock()
	for _, one := range all {
		switch {
		case h.followed[one.id] > 0:
		case !one.phase.over():
			living = append(living, one.id)
		case !one.young:
			old++
		}
	}
	h.mu.Unlock()
	if len(living) > 0 {
		return job.Finding{
			Name: "runs", Detail: "there are runs that no job here follows: " + strings.Join(living[:min(len(living), 5)], ", "),
			Hint: "they are of another coordinator, or of one whose data was lost; see the processes there, and end them if nobody needs them",
		}
	}
	detail := "nothing of earlier jobs runs there"
	if old > 0 {
		detail += fmt.Sprintf("; %d directories of runs that are over are removed when they are a week old", old)
	}
	return job.Finding{Name: "runs", Good: true, Detail: detail}
}
