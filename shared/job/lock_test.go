package job_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestLockInWords(t *testing.T) {
	for want, lock := range map[string]job.Lock{
		"process 4711 of this host, which is gone":    {Holder: "web1@borgfleet-x.4711-0", PID: 4711, Process: job.Dead},
		"process 4711 of this host, which is alive":   {Holder: "web1@borgfleet-x.4711-0", PID: 4711, Process: job.Alive},
		"db2@99.12-0, of which nothing is known here": {Holder: "db2@99.12-0", PID: 12, Process: job.Unknown},
		"later.1-0, of which nothing is known here":   {Holder: "later.1-0", PID: 1, Process: "sleeping"},
	} {
		if got := lock.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
