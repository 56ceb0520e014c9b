package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file says in words what a plan does.

// planWishes is everything that a plan asks for, as rows of label and value.
func planWishes(p fleet.PlanSpec) []wish {
	var hosts wish
	switch {
	case len(p.Hosts) > 0:
		hosts = wish{"Hosts", p.Hosts, false}
	case len(p.Selector) > 0:
		hosts = said("Hosts that have the labels", pairsOf(p.Selector))
	}
	list := compactWishes(hosts, flag("Order", p.Order == fleet.Sequential, "one host after the other"+given(p.StopOnFailure, ", until one fails")),
		wish{"Repositories", p.Repositories, false})
	list = append(list, backupWishes(p.BackupSpec)...)
	list = append(list, dumpWishes(p)...)
	list = append(list, scheduleWishes(p)...)
	list = append(list, careWishes(p)...)
	return append(list, compactWishes(said("Labels", pairsOf(p.Labels)))...)
}

// said is a value in plain words; [text] is one in borg's own letters.
func said(label, value string) wish { return wish{Label: label, Values: nonEmpty(value)} }

func pairsOf(labels map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, key+"="+labels[key])
	}
	return strings.Join(list, ", ")
}

func dumpWishes(p fleet.PlanSpec) []wish {
	var dumps []string
	for _, dump := range p.Dumps {
		dumps = append(dumps, dump.Hook+given(dump.Name != "", " as "+dump.Name))
	}
	hooks := job.Hooks{}
	if p.Hooks != nil {
		hooks = *p.Hooks
	}
	return compactWishes(wish{"Dumps", dumps, true}, wish{"Hooks before", hooks.Before, true}, wish{"Hooks after", hooks.After, true},
		wish{"Hooks on failure", hooks.OnFailure, true}, text("Names of archives begin with", p.ArchivePrefix))
}

func scheduleWishes(p fleet.PlanSpec) []wish {
	list := []wish{{Label: "Runs", Values: []string{inWords(p.Schedule)}}}
	if s := p.Schedule; s != nil {
		ends := given(s.WindowEnds, ", and must be over by its end")
		list = append(list, compactWishes(text("Cron", s.Cron), said("Each host later by up to", string(s.Jitter)),
			said("Jobs begin between", s.Window+given(s.Window != "", ends)), said("A missed run is made up within", string(s.CatchUp)),
			said("If the last run is not over", overlaps[s.Overlap]))...)
	}
	age := cmp.Or(string(p.MaxAge), "two periods of the schedule and an hour")
	list = append(list, wish{Label: "Newest good backup at most", Values: []string{age + " old"}})
	retry := ""
	if p.Retry != nil {
		retry = strings.TrimPrefix(given(p.Retry.Attempts > 0, human.Plural(p.Retry.Attempts, "attempt"))+given(p.Retry.Wait != "", ", after "+string(p.Retry.Wait)+" and longer"), ", ")
	}
	priority := ""
	if p.Priority != 0 {
		priority = strconv.Itoa(p.Priority)
	}
	return append(list, compactWishes(said("Retry", retry), said("Time limit of a backup", string(p.Timeout)), said("Priority", priority))...)
}

var overlaps = map[fleet.Overlap]string{
	fleet.OverlapSkip: "the new one is left out", fleet.OverlapQueue: "the new one waits", fleet.OverlapReplace: "the old one is cancelled",
}

func careWishes(p fleet.PlanSpec) []wish {
	var kept []string
	if r := p.Retention; r != nil {
		for _, rule := range []struct {
			n    int
			word string
		}{{r.KeepLast, "newest"}, {r.KeepHourly, "hourly"}, {r.KeepDaily, "daily"}, {r.KeepWeekly, "weekly"}, {r.KeepMonthly, "monthly"}, {r.KeepYearly, "yearly"}} {
			if rule.n > 0 {
				kept = append(kept, human.Count(rule.n)+" "+rule.word)
			}
		}
		if r.KeepWithin != "" {
			kept = append(kept, "all within "+r.KeepWithin)
		}
	}
	var after []string
	for _, kind := range p.After {
		after = append(after, string(kind))
	}
	list := compactWishes(said("Keeps", strings.Join(kept, ", ")), said("After a good backup", strings.Join(after, ", then ")))
	if c := p.Check; c != nil {
		list = append(list, compactWishes(said("Checks every", string(c.Every)), said("Reads all data every", string(c.VerifyData)),
			said("A check takes at most", string(c.MaxDuration)), said("Checks begin between", c.Window))...)
	}
	if t := p.RestoreTest; t != nil {
		sample := fmt.Sprintf("%s or %s", human.Plural(cmp.Or(t.Files, 20), "file"), cmp.Or(string(t.Size), "1GiB"))
		list = append(list, compactWishes(said("Tests restoring every", string(t.Every)), said("Sample", sample+given(t.Canary, ", and a canary")),
			said("On host", t.Host), text("In", t.Target))...)
	}
	doubts := map[fleet.Suspect]string{fleet.SuspectAlert: "raises an alert", fleet.SuspectOff: "is not looked for"}[p.Suspicion]
	return append(list, said("A suspicious backup", cmp.Or(doubts, "raises an alert, and nothing is pruned until somebody accepts it")))
}

// inWords says when a schedule runs. What it cannot say it leaves to the cron
// expression, which is shown as well.
func inWords(s *fleet.Schedule) string {
	if s == nil {
		return "only when somebody runs it"
	}
	if s.Every != "" {
		return "every " + string(s.Every)
	}
	return cronWords(s.Cron) + ", " + cmp.Or(s.Timezone, "UTC")
}

var cronNames = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}

var weekdays = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

// cronWords says the usual cron expressions in words.
func cronWords(cron string) string {
	fields := strings.Fields(cmp.Or(cronNames[cron], cron))
	other := "by the cron expression " + cron
	if len(fields) != 5 || fields[3] != "*" {
		return other
	}
	minute, hour, day, weekday := number(fields[0]), number(fields[1]), number(fields[2]), number(fields[4])
	anyDay := fields[2] == "*" && fields[4] == "*"
	step, stepped := strings.CutPrefix(fields[0], "*/")
	switch at := fmt.Sprintf("%02d:%02d", hour, minute); {
	case stepped && number(step) > 0 && fields[1] == "*" && anyDay:
		return "every " + human.Plural(number(step), "minute")
	case minute < 0:
		return other
	case fields[1] == "*" && anyDay:
		return fmt.Sprintf("every hour, at minute %d", minute)
	case hour < 0:
		return other
	case anyDay:
		return "every day at " + at
	case fields[2] == "*" && fields[4] == "1-5":
		return "Monday to Friday at " + at
	case fields[2] == "*" && weekday >= 0 && weekday < len(weekdays):
		return "every " + weekdays[weekday] + " at " + at
	case fields[4] == "*" && day > 0:
		return fmt.Sprintf("on day %d of every month at %s", day, at)
	}
	return other
}

// number is a number without a sign; -1 if it is none.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
