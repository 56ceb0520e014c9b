package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// BenchmarkSubmitToOrder measures from the call of Submit to the order's
// arrival at the link, one job after the other, on a real store: two syncs.
func BenchmarkSubmitToOrder(b *testing.B) {
	w := newWorld(b, []string{"web1"}, []string{"web"})
	w.link.sent = make(chan bus.Order)
	a := w.agents["web1"]
	if _, err := w.dispatch().HandleHello(context.Background(), a.hello()); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		started := time.Now()
		j, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "bench"}, backup("web1", "web"))
		if err != nil {
			b.Fatal(err)
		}
		<-w.link.sent
		took = append(took, time.Since(started))
		b.StopTimer()
		for len(a.open()) == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		a.tell(key{j.ID, 1}, succeeded())
		if err := w.deliver(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkLongQueue is the same behind 3,000 jobs that wait for another repository.
func BenchmarkLongQueue(b *testing.B) {
	w := newWorld(b, []string{"web1", "web2"}, []string{"web", "db"})
	w.link.sent = make(chan bus.Order, 10)
	for _, host := range []string{"web1", "web2"} {
		if _, err := w.dispatch().HandleHello(context.Background(), w.agents[host].hello()); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 3000 {
		if _, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "bench"}, backup("web1", "web")); err != nil {
			b.Fatal(i, err)
		}
	}
	<-w.link.sent
	var took []time.Duration
	for b.Loop() {
		started := time.Now()
		j, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "bench"}, backup("web2", "db"))
		if err != nil {
			b.Fatal(err)
		}
		<-w.link.sent
		took = append(took, time.Since(started))
		b.StopTimer()
		for len(w.agents["web2"].open()) == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		w.agents["web2"].tell(key{j.ID, 1}, succeeded())
		if err := w.deliver(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkSubmitPlanned stores the jobs of 10,000 plans that are due at once, on a
// real store.
func BenchmarkSubmitPlanned(b *testing.B) {
	const plans = 10_000
	hosts, all := make([]string, plans), make([]dispatch.Planned, plans)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("web%d", i)
	}
	w := newWorld(b, hosts, []string{"web"})
	for n := 0; b.Loop(); n++ {
		for i, host := range hosts {
			all[i] = planned(host, "web", fmt.Sprint("R", n))
			all[i].Window = &job.Window{Hours: "22:00-06:00", Timezone: "Europe/Berlin"}
		}
		answer, err := w.dispatch().SubmitPlanned(context.Background(), fleet.Actor{Name: "bench"}, all)
		if err != nil || answer[plans-1].Err != nil {
			b.Fatal(err, answer)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10000")
}
