package plan_test

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// spec makes a plan, which need not be a good one.
func (w *walk) spec() fleet.PlanSpec {
	p := fleet.PlanSpec{BackupSpec: job.BackupSpec{Paths: []string{"/srv"}}, Repositories: pick(w, []string{"main"}, []string{"second"}, []string{"main", "second"})}
	if w.chance(50) {
		p.Selector = map[string]string{"role": "web"}
	} else {
		p.Hosts = []string{"web01", "web02", "web03", "web04"}
		w.random.Shuffle(4, func(i, j int) { p.Hosts[i], p.Hosts[j] = p.Hosts[j], p.Hosts[i] })
		p.Hosts = slices.DeleteFunc(p.Hosts[:1+w.random.IntN(4)], func(host string) bool { return w.gone[host] })
	}
	if w.chance(35) {
		p.Dumps = []fleet.Dump{{Hook: "pg"}, {Hook: "maria", Name: "shop"}}[:1+w.random.IntN(2)]
		if w.chance(30) {
			p.Paths = nil
		}
	}
	if w.chance(35) {
		p.Order, p.StopOnFailure = fleet.Sequential, w.chance(50)
	}
	if w.chance(30) {
		p.Retry = &fleet.Retry{Attempts: 1 + w.random.IntN(3), Wait: pick[fleet.Span](w, "", "5m", "40m")}
	}
	p.MaxAge = pick[fleet.Span](w, "", "", "10h", "2d")
	p.Suspicion = pick(w, "", "", "", fleet.SuspectAlert, fleet.SuspectOff)
	p.Schedule = w.schedule()
	w.care(&p)
	return p
}

func (w *walk) schedule() *fleet.Schedule {
	s := &fleet.Schedule{
		Timezone: pick(w, "", "Europe/Berlin"), Jitter: pick[fleet.Span](w, "", "", "10m", "50m"), CatchUp: pick[fleet.Span](w, "", "", "0s", "1h", "5h"),
		Overlap: pick(w, "", fleet.OverlapSkip, fleet.OverlapQueue, fleet.OverlapReplace),
	}
	if w.chance(60) {
		s.Every = pick[fleet.Span](w, "1h", "1h", "2h", "6h")
	} else {
		s.Cron = pick(w, "30 2 * * *", "15 */4 * * *", "0 8-18 * * 1-5")
	}
	if w.chance(35) {
		s.Window, s.WindowEnds = pick(w, "22:00-06:00", "08:00-20:00", "00:00-03:00"), w.chance(50)
	}
	return s
}

func (w *walk) care(p *fleet.PlanSpec) {
	if w.chance(70) {
		p.Retention, p.After = &fleet.Retention{KeepDaily: 7}, []job.Kind{job.Prune}
		if w.chance(60) {
			p.After = append(p.After, job.Compact)
		}
	}
	if w.chance(60) {
		p.Check = &fleet.CheckPolicy{Every: pick[fleet.Span](w, "12h", "30h"), VerifyData: pick[fleet.Span](w, "", "2d"), Window: pick(w, "", "", "10:00-14:00")}
	}
	if w.chance(40) {
		p.RestoreTest = &fleet.RestoreTest{Every: pick[fleet.Span](w, "20h", "3d"), Canary: len(p.Paths) > 0}
	}
}

func text(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// rows is how fresh everything is said to be.
func (w *walk) rows() []fleet.Freshness {
	rows, err := w.plans.Freshness(context.Background())
	if err != nil {
		w.wrong("%v", err)
	}
	return rows
}

// partsOf are the archives that each backup of a plan makes: of dumps, and of files.
func partsOf(spec fleet.PlanSpec) (parts []string) {
	for _, dump := range spec.Dumps {
		parts = append(parts, dump.Hook)
	}
	if len(spec.Paths) > 0 {
		parts = append(parts, "")
	}
	return parts
}

// regular returns how long a plan's runs are apart; 0: now and then another time.
func regular(spec fleet.PlanSpec) time.Duration {
	switch spec.Schedule.Cron {
	case "30 2 * * *":
		return 24 * time.Hour
	case "15 */4 * * *":
		return 4 * time.Hour
	}
	return spec.Schedule.Every.Duration()
}
