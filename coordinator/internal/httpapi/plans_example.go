package httpapi

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const exampleRunID = "01JD9X7P0000000000ABCDEFGH"

func examplePlan() fleet.PlanView {
	spec := fleet.PlanSpec{
		Hosts: []string{"web1"}, Repositories: []string{"web1-main"},
		Schedule:  &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin", Jitter: "15m", Window: "22:00-06:00"},
		Retention: &fleet.Retention{KeepDaily: 7, KeepWeekly: 4, KeepMonthly: 6},
		After:     []job.Kind{job.Prune, job.Compact}, Check: &fleet.CheckPolicy{Every: "7d", VerifyData: "30d"},
		RestoreTest: &fleet.RestoreTest{Every: "30d", Canary: true}, MaxAge: "36h",
	}
	spec.Paths, spec.Exclude, spec.Compression = []string{"/etc", "/var/www"}, []string{"*.log"}, "zstd,3"
	age, next := 82800.0, exampleTime().Add(24*time.Hour)
	tested := exampleTime().AddDate(0, 0, -9)
	return completePlan(fleet.PlanView{
		Plan: fleet.Plan{Name: "web1-daily", PlanSpec: spec, CreatedAt: exampleTime().AddDate(0, -3, 0), ChangedAt: exampleTime().AddDate(0, -1, 0)},
		On:   []string{"web1"}, State: fleet.Fresh,
		Freshness: []fleet.Freshness{{
			Plan: "web1-daily", Host: "web1", Repository: "web1-main", State: fleet.Fresh, LastSuccess: exampleBackup(),
			Age: &age, MaxAge: 129600, NextRun: &next, LastRun: fleet.RunSucceeded, LastRestoreTest: &tested,
		}},
		Next: []time.Time{next}, Runs: []fleet.RunMark{{ID: exampleRunID, State: fleet.RunRunning, Due: exampleTime()}}, Open: exampleRunID,
	})
}

func exampleRun() fleet.Run {
	return fleet.Run{
		ID: exampleRunID, Plan: "web1-daily", Trigger: fleet.TriggerSchedule, Due: exampleTime(), StartedAt: exampleTime(), State: fleet.RunRunning,
		Tasks: []fleet.Task{{Host: "web1", Repository: "web1-main", Kind: job.Backup, NotBefore: exampleTime(), Job: exampleID, State: fleet.RunRunning}},
	}
}

func exampleStart() PlanStart {
	run, first := exampleRun(), exampleJob()
	run.Trigger, run.By, first.Run = fleet.TriggerManual, "operator:alice", exampleRunID
	return PlanStart{Run: run, Jobs: []job.Job{first}}
}

func exampleCalendar() Calendar {
	return Calendar{
		From: exampleTime(), To: exampleTime().Add(calendarSpan),
		Occurrences: []fleet.Occurrence{{Plan: "web1-daily", Host: "web1", At: exampleTime().Add(23*time.Hour + 4*time.Minute), Due: exampleTime().Add(23 * time.Hour), Seconds: 203}},
	}
}

func exampleRestoreTest() job.Job {
	test := exampleJob()
	test.Kind, test.Spec, test.State = job.TestRestore, job.RestoreTestSpec{Archive: exampleArchive().Name, Files: 20}, job.Queued
	test.Attempt, test.StartedAt, test.Progress, test.Attempts = 0, nil, nil, []job.Attempt{}
	return test
}

func exampleAlert() fleet.Alert {
	told := exampleTime().Add(31 * time.Second)
	return fleet.Alert{
		ID: "01JD9X7R0000000000ABCDEFGH",
		Condition: fleet.Condition{
			Kind: "overdue", Severity: fleet.SeverityCritical, Host: "web1", Repository: "web1-main", Plan: "web1-daily",
			Message: "web1-daily has no good backup of web1 to web1-main for 37 h", Hint: "is web1 online?", Since: exampleTime(),
			Labels: map[string]string{"site": "fra"},
		},
		RaisedAt: exampleTime(), Told: []string{"ops"}, ToldAt: &told,
	}
}

func exampleSilence() fleet.Silence {
	return fleet.Silence{
		ID: "01JD9X7S0000000000ABCDEFGH", Kind: "offline", Host: "web1", Reason: "the machine is moved",
		By: "operator:alice", CreatedAt: exampleTime(), Until: exampleTime().Add(8 * time.Hour),
	}
}

func exampleTarget() fleet.Target {
	return fleet.Target{Name: "ops", Kind: "ntfy", Shown: "ntfy://ntfy.example.net/…", CreatedAt: exampleTime().AddDate(0, -3, 0)}
}

func exampleRule() fleet.Rule {
	return fleet.Rule{Name: "web", Severity: fleet.SeverityWarning, Hosts: []string{"web*"}, Targets: []string{"ops"}, Repeat: "4h"}
}

func exampleDelivery() fleet.Delivery {
	sent := exampleTime().Add(31 * time.Second)
	return fleet.Delivery{
		ID: "01JD9X7T0000000000ABCDEFGH", At: exampleTime().Add(30 * time.Second), Target: "ops", Rule: "web",
		Alerts: []string{"01JD9X7R0000000000ABCDEFGH"}, Subject: "web1-daily is overdue", Tries: 1, SentAt: &sent,
	}
}
