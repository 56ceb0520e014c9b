package daemon

import (
	"context"
	"fmt"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/mount"
	"github.com/borgfleet/borgfleet/shared/probe"
)

// Below so much borg's cache may not fit.
const (
	littleSpace   = 1 << 30
	littlePercent = 5
)

// verify finds out whether this host can do its work.
func (d *daemon) verify(ctx context.Context) []job.Finding {
	return []job.Finding{d.verifyBorg(ctx), mount.Verify(ctx, d.Config.Borg.Binary), d.verifySpace()}
}

func (d *daemon) verifyBorg(ctx context.Context) job.Finding {
	version, failure := d.borg.Version(ctx)
	if failure != nil {
		return job.Finding{Name: "borg", Detail: failure.Message, Hint: failure.Hint}
	}
	return job.Finding{Name: "borg", Good: true, Detail: fmt.Sprintf("borg %s at %s", version.Text, d.Config.Borg.Binary)}
}

func (d *daemon) verifySpace() job.Finding {
	dir := baseDir(d.Config.Data)
	free, total := probe.Space(dir)
	found := job.Finding{
		Name: "space", Good: free >= littleSpace && free >= total/100*littlePercent,
		Detail: fmt.Sprintf("%.1f GiB of %.1f GiB free under %s, where borg keeps its cache", gibibytes(free), gibibytes(total), dir),
	}
	if !found.Good {
		found.Hint = fmt.Sprintf("free some, or move data: in agent.yaml to another file system; with less than 1 GiB or %d %% borg's cache may not fit", littlePercent)
	}
	return found
}

func gibibytes(n uint64) float64 { return float64(n) / (1 << 30) }
