package plan

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/shared/job"
)

var (
	planName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	hookName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
)

// Bounds of a plan.
const (
	maxAttempts = 10
	maxDumps    = 20
)

// CheckName returns nil, or why a plan cannot be called so.
func CheckName(name string) error {
	if !planName.MatchString(name) {
		return job.Invalid("name", "%q is not a plan's name", name).WithHint("1 to 63 of a-z, 0-9 and dashes, the first no dash")
	}
	return nil
}

// Check returns nil, or everything that is wrong with a plan by itself, joined;
// each fault is a *job.Failure that names its field.
func Check(name string, p fleet.PlanSpec) error {
	faults := []error{CheckName(name), checkHosts(p), checkRepositories(p), checkSource(p), checkArchives(name, p), checkCare(p), checkWays(p), checkSpans(p)}
	if p.Schedule != nil {
		_, err := schedule.Parse(*p.Schedule)
		faults = append(faults, err, checkOverlap(p.Schedule.Overlap))
	}
	return errors.Join(faults...)
}

func checkHosts(p fleet.PlanSpec) error {
	switch {
	case len(p.Hosts) == 0 && len(p.Selector) == 0:
		return job.Invalid("hosts", "neither hosts nor a selector: the plan is for nobody").WithHint("name hosts, or give a selector of labels that they have")
	case len(p.Hosts) > 0 && len(p.Selector) > 0:
		return job.Invalid("selector", "cannot be combined with hosts").WithHint("give one of them")
	}
	return errors.Join(twice("hosts", p.Hosts), reserved(p.Hosts))
}

func reserved(hosts []string) error {
	if slices.Contains(hosts, fleet.LocalHost) {
		return job.Invalid("hosts", "%q is the coordinator's own machine, which is not backed up by a plan", fleet.LocalHost).
			WithHint("put an agent on it under another name")
	}
	return nil
}

// twice refuses names that are there more than once.
func twice(field string, names []string) error {
	seen := map[string]bool{}
	for _, name := range names {
		if name == "" || seen[name] {
			return job.Invalid(field, "%q is there twice, or empty", name).WithHint("name each once")
		}
		seen[name] = true
	}
	return nil
}

func checkRepositories(p fleet.PlanSpec) error {
	if len(p.Repositories) == 0 {
		return job.Invalid("repositories", "is missing").WithHint("name at least one repository")
	}
	return twice("repositories", p.Repositories)
}

// checkSource checks what is backed up.
func checkSource(p fleet.PlanSpec) error {
	var faults []error
	if p.Archive != "" {
		faults = append(faults, job.Invalid("archive", "the archives of a plan have names of their own").WithHint("archive_prefix says how they begin; the time follows"))
	}
	if p.Canary != nil {
		faults = append(faults, job.Invalid("canary", "a plan makes its own canary").WithHint("restore_test: {canary: true}"))
	}
	if hasFiles(p) {
		files := p.BackupSpec
		files.Archive, files.Canary = "", nil
		faults = append(faults, files.Validate())
	}
	if len(p.Dumps) > maxDumps {
		faults = append(faults, job.Invalid("dumps", "%d are more than %d", len(p.Dumps), maxDumps))
	}
	hooks, names := []string{}, []string{}
	for i, dump := range p.Dumps {
		hooks, names = append(hooks, dump.Hook), append(names, dumpName(p, dump.Hook))
		if !hookName.MatchString(dump.Hook) {
			faults = append(faults, job.Invalid(fmt.Sprintf("dumps[%d].hook", i), "%q is not the name of a hook", dump.Hook).
				WithHint("name a script that lies in the host's directory of hooks, without a path"))
		}
		if dump.Name != "" && !hookName.MatchString(dump.Name) {
			faults = append(faults, job.Invalid(fmt.Sprintf("dumps[%d].name", i), "%q is not a dump's name", dump.Name).
				WithHint("1 to 63 of a-z, 0-9, dot, dash and underscore"))
		}
	}
	return errors.Join(append(faults, twice("dumps", hooks), twice("dumps", names))...)
}

// checkArchives checks how archives are named: each host's own way.
func checkArchives(name string, p fleet.PlanSpec) error {
	if p.ArchivePrefix == "" {
		return nil
	}
	several := len(p.Hosts) != 1
	left := strings.NewReplacer("{host}", "", "{plan}", "").Replace(p.ArchivePrefix)
	switch {
	case strings.ContainsAny(left, "{}"):
		return job.Invalid("archive_prefix", "%q has braces around something else than host and plan", p.ArchivePrefix).WithHint("only {host} and {plan} are filled in")
	case several && !strings.Contains(p.ArchivePrefix, "{host}"):
		return job.Invalid("archive_prefix", "%q would be the same on each host", p.ArchivePrefix).WithHint("put {host} into it")
	}
	probe := job.InfoSpec{Archive: series(p, name, "host", "") + "2026-01-01T00:00:00"}
	if err := probe.Validate(); err != nil {
		return job.Invalid("archive_prefix", "%q cannot begin an archive's name", p.ArchivePrefix).WithHint("no slashes, no spaces at its ends")
	}
	return nil
}

// checkCare checks what follows backups.
func checkCare(p fleet.PlanSpec) error {
	var faults []error
	for i, kind := range p.After {
		if kind != job.Prune && kind != job.Compact {
			faults = append(faults, job.Invalid(fmt.Sprintf("after[%d]", i), "%q does not follow a backup", kind).WithHint("prune and compact do; check and restore_test have keys of their own"))
		}
	}
	if slices.Contains(p.After, job.Prune) && p.Retention == nil {
		faults = append(faults, job.Invalid("after", "prune needs to know what to keep").WithHint("for example retention: {keep_daily: 7, keep_weekly: 4}"))
	}
	if r := p.Retention; r != nil {
		keep := job.PruneSpec{KeepWithin: r.KeepWithin, KeepLast: r.KeepLast, KeepHourly: r.KeepHourly, KeepDaily: r.KeepDaily,
			KeepWeekly: r.KeepWeekly, KeepMonthly: r.KeepMonthly, KeepYearly: r.KeepYearly}
		faults = append(faults, below("retention", keep.Validate()))
	}
	if c := p.Check; c != nil {
		if c.Every == "" && c.VerifyData == "" {
			faults = append(faults, job.Invalid("check", "says neither every nor verify_data").WithHint("for example check: {every: 7d, verify_data: 90d}"))
		}
		if c.Window != "" {
			_, err := schedule.ParseWindow(c.Window, zoneOf(p))
			faults = append(faults, below("check", err))
		}
	}
	return errors.Join(append(faults, checkRestoreTest(p))...)
}

// below puts a field in front of those that faults name, all of them joined.
func below(field string, err error) error {
	var all []error
	for _, f := range failures(err) {
		named := *f
		named.Message = field + "." + f.Message
		all = append(all, &named)
	}
	return errors.Join(all...)
}

func zoneOf(p fleet.PlanSpec) string {
	if p.Schedule == nil {
		return ""
	}
	return p.Schedule.Timezone
}

func checkRestoreTest(p fleet.PlanSpec) error {
	r := p.RestoreTest
	if r == nil {
		return nil
	}
	var faults []error
	if r.Every.Duration() <= 0 {
		faults = append(faults, job.Invalid("restore_test.every", "is missing").WithHint("for example 30d"))
	}
	size, err := r.Size.Bytes()
	if err != nil {
		faults = append(faults, job.Invalid("restore_test.size", "%s", err))
	}
	if r.Canary && len(p.Paths) == 0 {
		faults = append(faults, job.Invalid("restore_test.canary", "is only for plans with paths").WithHint("leave it out"))
	}
	spec := job.RestoreTestSpec{Archive: "probe", Files: r.Files, Bytes: size, Target: r.Target}
	return errors.Join(append(faults, below("restore_test", spec.Validate()))...)
}

// checkWays checks what is one of a few words, or a number within bounds.
func checkWays(p fleet.PlanSpec) error {
	var faults []error
	if !slices.Contains([]fleet.Order{"", fleet.Parallel, fleet.Sequential}, p.Order) {
		faults = append(faults, job.Invalid("order", "%q is no order of hosts", p.Order).WithHint("parallel or sequential"))
	}
	if p.StopOnFailure && p.Order != fleet.Sequential {
		faults = append(faults, job.Invalid("stop_on_failure", "is only for order: sequential").WithHint("hosts in parallel do not wait for each other"))
	}
	if !slices.Contains([]fleet.Suspect{"", fleet.SuspectHold, fleet.SuspectAlert, fleet.SuspectOff}, p.Suspicion) {
		faults = append(faults, job.Invalid("suspicion", "%q is not known", p.Suspicion).WithHint("hold, alert or off"))
	}
	if p.Priority < -maxPriority || p.Priority > maxPriority {
		faults = append(faults, job.Invalid("priority", "%d is not between -%d and %d", p.Priority, maxPriority, maxPriority))
	}
	if r := p.Retry; r != nil && (r.Attempts < 0 || r.Attempts > maxAttempts) {
		faults = append(faults, job.Invalid("retry.attempts", "%d is not between 0 and %d", r.Attempts, maxAttempts))
	}
	return errors.Join(faults...)
}

func checkOverlap(o fleet.Overlap) error {
	if !slices.Contains([]fleet.Overlap{"", fleet.OverlapSkip, fleet.OverlapQueue, fleet.OverlapReplace}, o) {
		return job.Invalid("schedule.overlap", "%q is not known", o).WithHint("skip, queue or replace")
	}
	return nil
}

// checkSpans checks lengths of time; those of the schedule are the schedule's.
func checkSpans(p fleet.PlanSpec) error {
	spans := map[string]fleet.Span{"max_age": p.MaxAge, "timeout": p.Timeout}
	if p.Check != nil {
		spans["check.every"], spans["check.verify_data"], spans["check.max_duration"] = p.Check.Every, p.Check.VerifyData, p.Check.MaxDuration
	}
	if p.RestoreTest != nil {
		spans["restore_test.every"] = p.RestoreTest.Every
	}
	if p.Retry != nil {
		spans["retry.wait"] = p.Retry.Wait
	}
	var faults []error
	for _, field := range slices.Sorted(maps.Keys(spans)) {
		if _, err := spans[field].Length(); err != nil {
			faults = append(faults, job.Invalid(field, "%s", err))
		}
	}
	if p.Timeout.Duration() > job.MaxTimeout {
		faults = append(faults, job.Invalid("timeout", "%s is more than 30d", p.Timeout))
	}
	return errors.Join(faults...)
}
