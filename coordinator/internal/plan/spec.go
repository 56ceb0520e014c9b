package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/shared/job"
)

// defaultPrefix begins the archives of a plan that does not say how.
const defaultPrefix = "{host}-{plan}-"

// series begins the names of a plan's archives of a host; the time follows. The
// output of a hook has a series of its own.
func series(p fleet.PlanSpec, plan, host, dump string) string {
	prefix := p.ArchivePrefix
	if prefix == "" {
		prefix = defaultPrefix
	}
	text := strings.NewReplacer("{host}", host, "{plan}", plan).Replace(prefix)
	if dump == "" {
		return text
	}
	return text + dumpName(p, dump) + "-"
}

// dumpName is what the output of a hook is called.
func dumpName(p fleet.PlanSpec, hook string) string {
	for _, dump := range p.Dumps {
		if dump.Hook == hook && dump.Name != "" {
			return dump.Name
		}
	}
	return hook
}

// hasFiles reports whether a plan backs up more than dumps.
func hasFiles(p fleet.PlanSpec) bool {
	return len(p.Paths) > 0 || p.ContentFrom != "" || p.PathsFrom != "" || len(p.Dumps) == 0
}

// maxKeyBytes bounds an idempotency key.
const maxKeyBytes = 200

// keyOf is the idempotency key of a task's job.
func keyOf(run string, t fleet.Task) string {
	rest := t.Host + "/" + t.Repository + "/" + string(t.Kind)
	if t.Dump != "" {
		rest += "/" + t.Dump
	}
	key := "run/" + run + "/"
	if len(key)+len(rest) > maxKeyBytes {
		sum := sha256.Sum256([]byte(rest))
		rest = hex.EncodeToString(sum[:])
	}
	return key + rest
}

// ask is what the job of a task is made of.
type ask struct {
	plan    fleet.Plan
	run     fleet.Run
	task    fleet.Task
	now     time.Time
	expires time.Duration // of a backup; 0: the coordinator's own limit
	known   care          // of the repository
	archive string        // restore test: the archive
	canary  *job.Canary   // restore test: what must be in it
}

// planned makes the request for a task's job.
func (a ask) planned() (fleet.Planned, error) {
	spec := a.spec()
	data, err := json.Marshal(spec)
	if err != nil {
		return fleet.Planned{}, fmt.Errorf("encode the spec of a %s: %w", a.task.Kind, err)
	}
	p := fleet.Planned{Run: a.run.ID, Request: job.Request{
		Host: a.task.Host, Kind: a.task.Kind, Repository: a.task.Repository, Spec: data, Plan: a.plan.Name,
		Priority: a.plan.Priority, IdempotencyKey: keyOf(a.run.ID, a.task),
	}}
	switch a.task.Kind {
	case job.Backup:
		p.Series = series(a.plan.PlanSpec, a.plan.Name, a.task.Host, a.task.Dump)
		p.ExpiresIn, p.Timeout = seconds(a.expires), seconds(a.plan.Timeout.Duration())
		if retry := a.plan.Retry; retry != nil {
			p.MaxAttempts, p.RetryWait = retry.Attempts, retry.Wait.Duration()
		}
		p.Window = a.window(true)
	case job.Prune, job.Compact:
		p.Window = a.window(false)
	case job.Check:
		p.Window = a.checkWindow()
		p.Priority = max(-maxPriority, p.Priority-checksBehind)
	case job.TestRestore:
		if test := a.plan.RestoreTest; test != nil && test.Host != "" {
			p.Host = test.Host
		}
		p.Priority = max(-maxPriority, p.Priority-checksBehind)
	}
	return p, nil
}

// Checks and tests let backups go before them.
const (
	maxPriority  = 100
	checksBehind = 10
)

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// window is the hours in which a plan's jobs may begin; who runs a plan by hand
// means now.
func (a ask) window(ends bool) *job.Window {
	s := a.plan.Schedule
	if s == nil || s.Window == "" || a.run.Trigger == fleet.TriggerManual {
		return nil
	}
	return &job.Window{Hours: s.Window, Timezone: s.Timezone, Ends: ends && s.WindowEnds}
}

func (a ask) checkWindow() *job.Window {
	if a.plan.Check == nil || a.plan.Check.Window == "" {
		return a.window(false)
	}
	w := &job.Window{Hours: a.plan.Check.Window}
	if a.plan.Schedule != nil {
		w.Timezone = a.plan.Schedule.Timezone
	}
	return w
}

func (a ask) spec() job.Spec {
	switch a.task.Kind {
	case job.Prune:
		keep := *a.plan.Retention
		return job.PruneSpec{
			KeepWithin: keep.KeepWithin, KeepLast: keep.KeepLast, KeepHourly: keep.KeepHourly, KeepDaily: keep.KeepDaily,
			KeepWeekly: keep.KeepWeekly, KeepMonthly: keep.KeepMonthly, KeepYearly: keep.KeepYearly,
			Series: series(a.plan.PlanSpec, a.plan.Name, a.task.Host, a.task.Dump),
		}
	case job.Compact:
		return job.CompactSpec{}
	case job.Check:
		if _, verify := checkDue(a.plan.Check, a.known, a.now); verify {
			return job.CheckSpec{VerifyData: true}
		}
		return job.CheckSpec{MaxDuration: seconds(a.plan.Check.MaxDuration.Duration())}
	case job.TestRestore:
		return a.restoreTest()
	default:
		return a.backup()
	}
}

func (a ask) backup() job.Spec {
	spec := a.plan.BackupSpec
	if a.task.Dump != "" {
		return job.BackupSpec{
			ContentFrom: a.task.Dump, StdinName: dumpName(a.plan.PlanSpec, a.task.Dump), Comment: spec.Comment,
			Compression: spec.Compression, UploadLimit: spec.UploadLimit, CheckpointInterval: spec.CheckpointInterval,
		}
	}
	spec.Canary = canaryOf(a.plan)
	return spec
}

// canaryOf is the small file that each backup of a plan gets, nil if it gets none.
func canaryOf(p fleet.Plan) *job.Canary {
	if p.RestoreTest == nil || !p.RestoreTest.Canary || p.Canary == "" || len(p.Paths) == 0 {
		return nil
	}
	return &job.Canary{Name: p.Name, Content: p.Canary}
}

func (a ask) restoreTest() job.Spec {
	spec := job.RestoreTestSpec{Archive: a.archive, Canary: a.canary, Seed: a.now.Unix()}
	if test := a.plan.RestoreTest; test != nil {
		size, err := test.Size.Bytes()
		if err == nil { // it was checked when the plan was stored
			spec.Bytes = size
		}
		spec.Files, spec.Target = test.Files, test.Target
		spec.NoSource = test.Host != "" && test.Host != a.task.Host
	}
	return spec
}

// leastPatience is how long a backup may at least wait for its turn, unless the
// next one is due before.
const leastPatience = 15 * time.Minute

// expiry is how long a backup that is to begin now may wait. first is the moment
// at which its host's first one was due, jitter included.
func expiry(t *schedule.Timetable, first, now time.Time, delay, late time.Duration) time.Duration {
	if t == nil {
		return 0
	}
	next := time.Duration(job.MaxExpiry)
	if at := t.Next(now.Add(-delay)); !at.IsZero() {
		next = at.Add(delay).Sub(now)
	}
	if first.IsZero() { // by hand
		return min(next, job.MaxExpiry)
	}
	left, patience := first.Add(late).Sub(now), leastPatience+t.Window().Opens(now).Sub(now)
	if opens := t.Window().Opens(first); opens.After(first) { // it could not begin before
		left = max(left, min(opens.Add(late).Sub(now), next))
	}
	return min(max(left, min(patience, next)), job.MaxExpiry)
}
