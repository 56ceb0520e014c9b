package dispatch_test

import (
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/shared/job"
)

// within is a planned backup of web1 that may begin at these hours only.
func within(window job.Window) dispatch.Planned {
	p := planned("web1", "web", "R1")
	p.Window, p.ExpiresIn = &window, int((30*24*time.Hour)/time.Second)
	return p
}

// until sleeps to a moment of the first day of the fake clock, with hellos.
func (w *world) until(clock string) {
	w.t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", "2000-01-01 "+clock)
	if err != nil {
		w.t.Fatal(err)
	}
	for time.Until(at) > 0 {
		time.Sleep(min(time.Minute, time.Until(at)))
		w.hello("web1")
	}
}

func TestJobsKeepTheirHours(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		id := w.plan(within(job.Window{Hours: "03:00-05:00", Timezone: "Europe/Berlin"}))[0].Job.ID
		w.expect(id, job.Queued, 0, "outside the window 03:00-05:00 (Europe/Berlin)")
		w.until("01:30:00")
		w.restart()
		w.hello("web1")
		w.until("01:59:59")
		w.expect(id, job.Queued, 0, "outside the window 03:00-05:00 (Europe/Berlin)")
		w.until("02:00:00") // three in Berlin
		w.expect(id, job.Running, 1, "")
		if order := w.agents["web1"].orders[0]; order.Timeout != 0 {
			t.Errorf("an attempt that may end later has %d s", order.Timeout)
		}
	})
}

func TestJobsEndInTheirHours(t *testing.T) {
	for name, test := range map[string]struct {
		at      string
		timeout int // of the job
		want    int // of the order; 0: it waits
	}{
		"as it opens":              {"01:00:00", 0, 3600},
		"in the middle":            {"01:30:30", 0, 29*60 + 30},
		"a job that is limited":    {"01:30:00", 60, 60},
		"a job that is not enough": {"01:30:00", 7200, 1800},
		"a minute is left":         {"01:59:00", 0, 60},
		"less than a minute":       {"01:59:01", 0, 0},
		"it is over":               {"02:00:00", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				w.until(test.at)
				p := within(job.Window{Hours: "01:00-02:00", Ends: true})
				p.Timeout = test.timeout
				id := w.plan(p)[0].Job.ID
				if test.want == 0 {
					w.expect(id, job.Queued, 0, "outside the window 01:00-02:00 (UTC)")
					return
				}
				w.expect(id, job.Running, 1, "")
				if order := w.agents["web1"].orders[0]; order.Timeout != test.want {
					t.Errorf("the order has %d s, want %d", order.Timeout, test.want)
				}
			})
		})
	}
}

// TestHoursThatNeverCome: a job whose window does not open in its time expires.
func TestHoursThatNeverCome(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		p := within(job.Window{Hours: "12:00-13:00"})
		p.ExpiresIn = 600
		id := w.plan(p)[0].Job.ID
		w.until("00:11:00")
		j := w.expect(id, job.Expired, 0, "")
		if !strings.Contains(j.Failure.Message, "outside the window 12:00-13:00 (UTC)") {
			t.Errorf("it does not say why: %v", j.Failure)
		}
	})
}

// TestHoursAndTheLookBefore: a prune whose dry run has been made goes, though its
// window has closed meanwhile: nothing is gained by waiting for a day with what it
// has seen.
func TestHoursAndTheLookBefore(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.until("00:59:00")
		p := dispatch.Planned{Request: request(job.Prune, daily), Run: "R1", Window: &job.Window{Hours: "00:00-01:00"}}
		p.Plan, p.IdempotencyKey = "daily", "key"
		prune := w.plan(p)[0].Job
		dry := w.dryRun(prune)
		w.until("01:05:00")
		w.ends(dry, shares(5, 1))
		w.expect(prune.ID, job.Running, 1, "")
	})
}

func TestRetryWaits(t *testing.T) {
	for name, test := range map[string]struct {
		wait time.Duration
		want []time.Duration // the longest that each pause may be; a fifth less is the shortest
	}{
		"as others":      {0, []time.Duration{10 * time.Second, 20 * time.Second}},
		"from a minute":  {time.Minute, []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute}},
		"up to an hour":  {25 * time.Minute, []time.Duration{25 * time.Minute, 50 * time.Minute, time.Hour, time.Hour}},
		"never longer":   {5 * time.Hour, []time.Duration{time.Hour, time.Hour}},
		"half a second":  {time.Second / 2, []time.Duration{time.Second, 2 * time.Second}},
		"after a minute": {61 * time.Second, []time.Duration{61 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				p := planned("web1", "web", "R1")
				p.MaxAttempts, p.RetryWait = 9, test.wait
				id := w.plan(p)[0].Job.ID
				for i, want := range test.want {
					w.expect(id, job.Running, i+1, "")
					w.agents["web1"].tell(key{id, i + 1}, failed(job.ConnectionLost))
					w.mustDeliver()
					j := w.job(id)
					if pause := time.Until(*j.RetryAt); pause > want || pause < want*4/5 {
						t.Fatalf("pause %d is %s, want at most %s", i+1, pause, want)
					}
					for w.job(id).State == job.Queued {
						time.Sleep(time.Until(*j.RetryAt) + time.Second)
						w.hello("web1")
					}
				}
			})
		})
	}
}
