package bench_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

const returns = 10

// gatedBorg is a borg that lists only when the gate is there.
func gatedBorg(b *testing.B) (program, gate string) {
	b.Helper()
	dir := b.TempDir()
	program, gate = filepath.Join(dir, "borg"), filepath.Join(dir, "gate")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = list ]; then while ! [ -e %s ]; do sleep 0.02; done; fi\nexec borg \"$@\"\n", gate)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		b.Fatal(err)
	}
	return program, gate
}

// benchmarkAdopt: from the start of an agent that was killed to progress of the
// job that went on without it, beside its first word when nothing runs.
func benchmarkAdopt(b *testing.B) {
	c := harness.StartCoordinator(b)
	agent := c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	files := b.TempDir()
	fill(b, filepath.Join(files, "large"), 2000)
	watcher := watchLive(b, c)
	hellos := make(chan time.Time, 4096)
	if _, err := watcher.connection.Subscribe("borgfleet.v1.heartbeat.>", func(*nats.Msg) { hellos <- time.Now() }); err != nil {
		b.Fatal(err)
	}
	restart := func() time.Time {
		agent.Kill()
		began := time.Now()
		agent.Restart()
		return began
	}
	var adopted, idle []time.Duration
	for range returns {
		began := restart()
		idle = append(idle, next(b, hellos, func(at time.Time) bool { return at.After(began) }).Sub(began))
	}
	id := watcher.submit(b, fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,9"}}`, files))
	next(b, watcher.progress, func(p job.Progress) bool { return p.OriginalSize > 0 })
	for range returns {
		agent.Kill()
		for len(watcher.progress) > 0 {
			<-watcher.progress
		}
		began := time.Now()
		agent.Restart()
		next(b, watcher.progress, func(p job.Progress) bool { return p.OriginalSize > 0 })
		adopted = append(adopted, time.Since(began))
	}
	if j := c.Job(id); j.State != job.Running || j.Attempt != 1 {
		b.Errorf("the job is %s in attempt %d", j.State, j.Attempt)
	}
	own, base := quantile(adopted, 1), quantile(idle, 1)
	report(fmt.Sprintf("(j) agent restart to its job's news, slowest of %d", returns), ms(own), "to its hello: "+ms(base),
		fmt.Sprintf("%.1f", float64(own)/float64(base)), "<= 1000 ms")
}

// benchmarkReturn: from the moment at which a coordinator that was killed is
// ready again until it has stored what ended meanwhile, beside one that was
// there.
func benchmarkReturn(b *testing.B) {
	program, gate := gatedBorg(b)
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %q}\n", program)})
	location, _ := c.AddRepository("main")
	c.Init("web1", "main")
	stored := func(while func(end func())) time.Duration {
		_ = os.Remove(gate)
		id := c.Submit(`{"host":"web1","kind":"list","repository":"main"}`).ID
		c.Await(id, job.Running)
		var since time.Time
		while(func() {
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				b.Fatal(err)
			}
			harness.Eventually(b, "borg to end", func() error {
				if len(harness.PIDs(location)) > 0 {
					return errors.New("it runs")
				}
				return nil
			})
			since = time.Now()
		})
		if !c.Alive() {
			c.Restart()
			since = time.Now()
		}
		c.Await(id, job.Succeeded)
		return time.Since(since)
	}
	var away, present []time.Duration
	for range returns {
		present = append(present, stored(func(end func()) { end() }))
		away = append(away, stored(func(end func()) { c.Kill(); end() }))
	}
	own, base := quantile(away, 1), quantile(present, 1)
	report(fmt.Sprintf("(k) coordinator back to result stored, worst of %d", returns), ms(own), "never away: "+ms(base),
		fmt.Sprintf("%.1f", float64(own)/float64(base)), "<= 2000 ms")
}
