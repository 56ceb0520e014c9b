package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// limited is scenario with a coordinator that has limits of time.
func limited(t *testing.T, change func(w *world), test func(t *testing.T, w *world)) {
	scenario(t, func(t *testing.T, w *world) {
		w.halt()
		change(w)
		w.openStore()
		w.start()
		w.hello("web1")
		w.hello("web2")
		test(t, w)
	})
}

// expiring is a backup that must begin within seconds.
func expiring(host, repository string, seconds int) job.Request {
	request := backup(host, repository)
	request.ExpiresIn = seconds
	return request
}

// leave takes a host away, as its connection's end does.
func (w *world) leave(host string) {
	w.agents[host].setUp(false)
	w.dispatch().HostDisconnected(host)
}

func (w *world) come(host string) {
	w.agents[host].setUp(true)
	w.hello(host)
}

// over checks how a job ended.
func (w *world) over(id job.ID, state job.State, code job.Code, words ...string) job.Job {
	w.t.Helper()
	j := w.job(id)
	if j.State != state || j.Failure == nil || j.Failure.Code != code || j.FinishedAt == nil || j.Reason != "" || j.RetryAt != nil {
		w.t.Fatalf("job is %s with %+v, want %s with %s", j.State, j.Failure, state, code)
	}
	for _, word := range words {
		if !strings.Contains(j.Failure.Message, word) {
			w.t.Errorf("failure %q does not say %q", j.Failure.Message, word)
		}
	}
	return j
}

func TestExpiryOfWhatNobodyTook(t *testing.T) {
	t.Run("host away", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.leave("web1")
			j := w.submit(expiring("web1", "web", 3600))
			if want := j.SubmittedAt.Add(time.Hour); j.ExpiresAt == nil || !j.ExpiresAt.Equal(want) {
				t.Fatalf("it expires at %v, want %v", j.ExpiresAt, want)
			}
			time.Sleep(time.Hour - time.Second)
			if got := w.job(j.ID); got.State != job.Queued {
				t.Fatalf("job is %s before its time is over", got.State)
			}
			time.Sleep(time.Second)
			w.over(j.ID, job.Expired, job.HostUnreachable, "of 1 h", "host web1 offline since")
			w.come("web1")
			if n := len(w.agents["web1"].orders); n != 0 {
				t.Errorf("the host got %d orders", n)
			}
		})
	})
	t.Run("repository busy", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			one := w.submit(backup("web1", "web"))
			synctest.Wait()
			two := w.submit(expiring("web2", "web", 60))
			for range 3 { // hellos, or the host is taken as offline
				time.Sleep(20 * time.Second)
				w.hello("web2")
			}
			w.over(two.ID, job.Expired, job.Timeout, "repository web is busy with job …"+one.ID.Short())
			w.agents["web1"].tell(first(one), succeeded())
			w.mustDeliver()
			w.expect(one.ID, job.Succeeded, 1, "")
			w.expect(two.ID, job.Expired, 0, "")
		})
	})
	t.Run("coordinator away", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.leave("web1")
			j := w.submit(expiring("web1", "web", 3600))
			w.job(j.ID)
			w.halt()
			time.Sleep(2 * time.Hour)
			w.openStore()
			w.start()
			w.over(j.ID, job.Expired, job.HostUnreachable, "host web1 offline since")
		})
	})
	t.Run("limit of the coordinator", func(t *testing.T) {
		limited(t, func(w *world) { w.limits.Expire = time.Hour }, func(t *testing.T, w *world) {
			w.leave("web1")
			short, long, byDefault := w.submit(expiring("web1", "web", 60)), w.submit(expiring("web1", "web", 7200)), w.submit(backup("web1", "web"))
			time.Sleep(time.Hour)
			w.over(short.ID, job.Expired, job.HostUnreachable)
			w.over(byDefault.ID, job.Expired, job.HostUnreachable)
			if got := w.job(long.ID); got.State != job.Queued {
				t.Errorf("the one with a time of its own is %s", got.State)
			}
			again, err := w.dispatch().Retry(context.Background(), fleet.Actor{Name: "operator:bob"}, short.ID)
			if err != nil || again.ExpiresAt.Sub(again.SubmittedAt) != time.Minute {
				t.Errorf("asked for again it expires at %v, %v", again.ExpiresAt, err)
			}
		})
	})
	t.Run("thousands at once", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.leave("web1")
			for range 600 { // more than one transaction
				w.submit(expiring("web1", "web", 60))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if page, err := w.dispatch().Jobs(context.Background(), job.Filter{State: job.Queued}); err != nil || len(page.Jobs) != 0 {
				t.Errorf("%d jobs have not expired, %v", len(page.Jobs), err)
			}
		})
	})
}

func TestExpiryOfWhatMayHaveArrived(t *testing.T) {
	t.Run("the host has never seen it", func(t *testing.T) {
		for _, restart := range []bool{false, true} {
			scenario(t, func(t *testing.T, w *world) {
				w.link.setFault(func(string) (error, error) { return errLost, nil })
				j := w.submit(expiring("web1", "web", 60))
				w.job(j.ID)
				time.Sleep(2 * time.Minute)
				if got := w.job(j.ID); got.State != job.Sent {
					t.Fatalf("job is %s, and nobody knows whether the host has it", got.State)
				}
				if restart {
					w.restart()
				}
				w.link.setFault(nil)
				w.hello("web1")
				w.mustDeliver()
				w.over(j.ID, job.Expired, job.Timeout)
				if n := len(w.agents["web1"].orders); n != 0 {
					t.Errorf("the host ran %d orders", n)
				}
			})
		}
	})
	t.Run("its event is quicker than its answer", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(expiring("web1", "web", 60))
			w.job(j.ID)
			time.Sleep(2 * time.Minute)
			w.link.setFault(func(string) (error, error) { return nil, errLost }) // told, and not answered
			w.hello("web1")
			w.mustDeliver()
			w.over(j.ID, job.Expired, job.Timeout)
		})
	})
	t.Run("the host has it", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return nil, errLost })
			j := w.submit(expiring("web1", "web", 60))
			w.job(j.ID)
			time.Sleep(2 * time.Minute)
			w.link.setFault(nil)
			w.hello("web1")
			w.expect(j.ID, job.Running, 1, "")
			if w.agents["web1"].of(first(j)).cancelled {
				t.Error("a job that was accepted in its time was ended")
			}
		})
	})
	t.Run("a person cancelled it", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(expiring("web1", "web", 60))
			w.job(j.ID)
			time.Sleep(2 * time.Minute)
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			w.link.setFault(nil)
			w.hello("web1")
			w.mustDeliver()
			w.over(j.ID, job.Cancelled, job.CodeCancelled)
		})
	})
	t.Run("the host turns it away", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) {
				time.Sleep(4 * time.Second)
				return nil, nil
			})
			w.agents["web1"].refuse = job.Fail(job.RefusedByHost, "the order has expired")
			j := w.submit(expiring("web1", "web", 3))
			time.Sleep(10 * time.Second)
			w.over(j.ID, job.Expired, job.Timeout, "the order has expired")
		})
	})
}

func TestExpiryOfRetries(t *testing.T) {
	fail := func(w *world, seconds int) job.Job {
		j := w.submit(expiring("web1", "web", seconds))
		synctest.Wait()
		w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
		w.mustDeliver()
		return j
	}
	t.Run("cannot begin", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := fail(w, 3600)
			retryAt := w.job(j.ID).RetryAt
			w.leave("web1")
			time.Sleep(time.Until(*retryAt) + time.Hour - time.Second)
			if got := w.job(j.ID); got.State != job.Queued {
				t.Fatalf("job is %s before its time is over", got.State)
			}
			time.Sleep(time.Second)
			got := w.over(j.ID, job.Failed, job.ConnectionLost, "it broke", "attempt 2", "host web1 offline since")
			if len(got.Attempts) != 1 || got.Attempts[0].Failure.Message != "it broke" {
				t.Errorf("attempts are %+v", got.Attempts)
			}
		})
	})
	t.Run("can begin", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := fail(w, 5) // over before the pause is
			time.Sleep(time.Minute)
			w.expect(j.ID, job.Running, 2, "")
		})
	})
	t.Run("its host is away for a moment, after a long attempt", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(expiring("web1", "web", 60))
			w.expect(j.ID, job.Running, 1, "")
			time.Sleep(time.Hour)
			w.hello("web1")
			w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
			w.mustDeliver()
			w.leave("web1")
			time.Sleep(30 * time.Second)
			if got := w.job(j.ID); got.State != job.Queued {
				t.Fatalf("job is %s: %+v", got.State, got.Failure)
			}
			w.agents["web1"].setUp(false)
			w.hello("web1") // said just before it went: the order is taken back
			time.Sleep(20 * time.Second)
			if got := w.job(j.ID); got.State != job.Queued || got.RetryAt != nil {
				t.Fatalf("job is %s, to be tried again at %v", got.State, got.RetryAt)
			}
			w.come("web1")
			w.expect(j.ID, job.Running, 2, "")
		})
	})
	t.Run("hosts not heard of since the start", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := fail(w, 5)
			w.halt()
			time.Sleep(time.Minute)
			w.openStore()
			w.start()
			if got := w.job(j.ID); got.State != job.Queued {
				t.Fatalf("job is %s before its host could be heard of", got.State)
			}
			w.hello("web1")
			w.expect(j.ID, job.Running, 2, "")
		})
	})
}

func TestOrdersCarryDeadlines(t *testing.T) {
	limited(t, func(w *world) { w.limits.Timeout = 2 * time.Hour }, func(t *testing.T, w *world) {
		request := expiring("web1", "web", 60)
		request.Timeout = 90
		own, byDefault := w.submit(request), w.submit(backup("web1", "db"))
		w.expect(own.ID, job.Running, 1, "")
		w.expect(byDefault.ID, job.Running, 1, "")
		for _, order := range w.agents["web1"].orders {
			timeout, lifetime := 90, time.Minute
			if order.Job == byDefault.ID {
				timeout, lifetime = 7200, bus.OrderLifetime
			}
			if order.Timeout != timeout || order.ExpiresAt.Sub(order.IssuedAt) != lifetime {
				t.Errorf("order has timeout %d and lives for %s, want %d and %s", order.Timeout, order.ExpiresAt.Sub(order.IssuedAt), timeout, lifetime)
			}
		}
		w.agents["web1"].tell(first(own), failed(job.Timeout))
		w.mustDeliver()
		if got := w.over(own.ID, job.Failed, job.Timeout); got.Timeout != 90 || got.Attempt != 1 {
			t.Errorf("job is %+v", got)
		}
	})
}

func TestIdempotencyKeyAndTimes(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.leave("web1")
		request := expiring("web1", "web", 60)
		request.IdempotencyKey, request.Timeout = "nightly-1", 5
		one := w.submit(request)
		w.halt()
		w.limits.Expire, w.limits.Timeout = time.Hour, time.Hour
		w.openStore()
		w.start()
		if two := w.submit(request); two.ID != one.ID {
			t.Error("the same request made another job")
		}
		for name, change := range map[string]func(r *job.Request){
			"time to begin": func(r *job.Request) { r.ExpiresIn = 61 }, "time to run": func(r *job.Request) { r.Timeout = 6 },
		} {
			other := request
			change(&other)
			if _, err := w.dispatch().Submit(context.Background(), fleet.Actor{}, other); job.AsFailure(err).Code != job.Conflict {
				t.Errorf("the same key with another %s: %v", name, err)
			}
		}
	})
}

func TestHostAwayForTooLong(t *testing.T) {
	day := func(w *world) { w.limits.Offline = 24 * time.Hour }
	t.Run("running", func(t *testing.T) {
		limited(t, day, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.leave("web1")
			next := w.submit(list("web2", "web"))
			time.Sleep(24*time.Hour - time.Minute)
			w.hello("web2")
			if got := w.job(j.ID); got.State != job.Running {
				t.Fatalf("job is %s before its host is away for too long", got.State)
			}
			time.Sleep(time.Minute)
			if got := w.over(j.ID, job.Failed, job.HostUnreachable, "host web1 has been away for 1 d"); got.Attempt != 1 || got.Failure.Retryable {
				t.Errorf("job is %+v", got)
			}
			w.expect(next.ID, job.Running, 1, "") // the repository is free
			w.agents["web1"].setUp(true)
			if reply := w.hello("web1"); len(reply.Verdicts) != 1 || reply.Verdicts[0].Action != bus.Stop {
				t.Errorf("the host was told %+v", reply.Verdicts)
			}
			w.agents["web1"].tell(first(j), job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.mustDeliver()
			w.over(j.ID, job.Failed, job.HostUnreachable)
			w.hello("web1")
			if h := w.agents["web1"].hello(); len(h.Attempts) != 0 {
				t.Errorf("the host still remembers %+v", h.Attempts)
			}
		})
	})
	t.Run("sent", func(t *testing.T) {
		limited(t, day, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(expiring("web1", "web", 60))
			w.job(j.ID)
			w.leave("web1")
			time.Sleep(48 * time.Hour)
			w.over(j.ID, job.Failed, job.HostUnreachable)
		})
	})
	t.Run("over a restart", func(t *testing.T) {
		limited(t, day, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.leave("web1")
			w.halt()
			time.Sleep(48 * time.Hour)
			w.openStore()
			w.start()
			w.hello("web2")
			if got := w.job(j.ID); got.State != job.Running {
				t.Fatalf("job is %s before its host could be heard of", got.State)
			}
			w.come("web1") // it was the coordinator that was away
			time.Sleep(time.Minute)
			w.expect(j.ID, job.Running, 1, "")
		})
	})
	t.Run("no limit", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.leave("web1")
			time.Sleep(24 * time.Hour)
			if got := w.job(j.ID); got.State != job.Running {
				t.Errorf("job is %s", got.State)
			}
		})
	})
}

func list(host, repository string) job.Request {
	return job.Request{Host: host, Kind: job.List, Repository: repository}
}
