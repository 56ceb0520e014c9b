package daemon

import (
	"context"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/mount"
	"github.com/borgfleet/borgfleet/shared/policy"
	"github.com/borgfleet/borgfleet/shared/probe"
	"github.com/borgfleet/borgfleet/shared/process"
)

// How jobs run on this machine: several at a time, as none of them competes with
// what the machine is there for, but gently.
const (
	localSlots   = 4
	localNice    = 10
	localIOClass = "best-effort:7"
	littleSpace  = 1 << 30
)

// localPost is the coordinator's own machine, on which the repositories in the
// depot are cared for.
type localPost struct {
	*daemon
	runs *process.Local
	borg *probe.Borg
}

func (d *daemon) openLocal() post {
	return &localPost{
		daemon: d, borg: probe.NewBorg(d.config.Depot.Borg),
		runs: process.NewLocal(process.Options{Root: d.path(jobsDir), Supervisor: d.supervisor, Standby: true, Logger: d.logger}),
	}
}

func (l *localPost) still(host fleet.Host) bool { return host.Mode == fleet.ModeLocal }

func (l *localPost) problem() *job.Failure { return nil }

func (l *localPost) run(ctx context.Context) {
	l.proxy.SetOnline(fleet.LocalHost, true)
	<-ctx.Done()
	l.runs.Close()
}

// runner allows what concerns a repository alone. None of it reads or writes
// files of this machine.
func (l *localPost) runner() proxy.Runner {
	kinds := []job.Kind{job.Download, job.Diff, job.Verify}
	for _, kind := range job.Kinds() {
		if fleet.OnDepot(kind) {
			kinds = append(kinds, kind)
		}
	}
	environment := borg.Environment{Binary: l.config.Depot.Borg, BaseDir: l.path(borgDir), HostID: l.hostID}
	return proxy.Runner{
		Host: fleet.LocalHost, Executor: l.runs, Runs: l.runs, Mounts: mount.Table{}, Borg: l.borg,
		Policy:      policy.Rules{Kinds: kinds, Repositories: []string{"*"}},
		Environment: func(context.Context) (borg.Environment, *job.Failure) { return environment, nil },
		Nice:        localNice, IOClass: localIOClass, Checks: l.checks, Facts: l.facts, Slots: localSlots,
	}
}

func (l *localPost) facts(ctx context.Context) bus.Hello {
	version, failure := l.borg.Version(ctx)
	return bus.Hello{
		AgentVersion: build.Current().Version, BorgVersion: version.Text, BorgFailure: failure,
		OS: probe.OS(), FreeBytes: probe.FreeBytes(l.config.DepotPath()),
	}
}

// checks finds out whether this machine can care for the depot.
func (l *localPost) checks(ctx context.Context) []job.Finding {
	version, failure := l.borg.Version(ctx)
	found := job.Finding{Name: "borg", Good: true, Detail: fmt.Sprintf("borg %s (%s)", version.Text, l.config.Depot.Borg)}
	if failure != nil {
		found = job.Finding{Name: "borg", Detail: failure.Message, Hint: failure.Hint}
	}
	free, total := probe.Space(l.config.DepotPath())
	space := job.Finding{
		Name: "space", Good: free >= littleSpace,
		Detail: fmt.Sprintf("%s of %s free under %s, where the depot is", human.Bytes(int64(free)), human.Bytes(int64(total)), l.config.DepotPath()),
	}
	if !space.Good {
		space.Hint = "free some, or set depot.path in coordinator.yaml to another disk"
	}
	return []job.Finding{found, space}
}
