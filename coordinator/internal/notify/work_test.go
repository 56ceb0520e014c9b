package notify_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// refuse answers requests to one host with a status, and takes others.
func refuse(host string, status int) func(*http.Request) (int, error) {
	return func(r *http.Request) (int, error) {
		if strings.HasPrefix(r.URL.Host, host) {
			return status, nil
		}
		return http.StatusOK, nil
	}
}

// hang answers no request to one host.
func hang(host string) func(*http.Request) (int, error) {
	return func(r *http.Request) (int, error) {
		if strings.HasPrefix(r.URL.Host, host) {
			<-r.Context().Done()
			return 0, r.Context().Err()
		}
		return http.StatusOK, nil
	}
}

func TestATargetThatFailsForADayDelaysNoOtherAndIsGivenUp(t *testing.T) {
	for name, answer := range map[string]func(string) func(*http.Request) (int, error){
		"refuses": func(host string) func(*http.Request) (int, error) { return refuse(host, http.StatusBadGateway) },
		"hangs":   hang,
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, r *rig) {
				r.webhook("bad")
				r.webhook("good")
				r.web.answers(answer("bad"))
				r.raise(fleet.Condition{Plan: "daily"})
				pass(time.Minute)
				want(t, r, "[borgfleet] critical: daily is overdue")
				pass(23 * time.Hour)
				if d := r.deliveries("bad"); len(d) != 1 || d[0].GivenUp || d[0].Error == "" || d[0].Tries < 20 || d[0].Tries > 50 {
					t.Fatalf("%+v", d)
				}
				if c := r.Conditions(); len(c) != 0 {
					t.Errorf("%+v", c)
				}
				targets, err := r.Targets(t.Context())
				if err != nil || targets[0].Trouble == "" || targets[0].TroubleSince == nil || targets[1].Trouble != "" {
					t.Errorf("%+v, %v", targets, err)
				}
				pass(3 * time.Hour)
				if d := r.deliveries("bad"); !d[len(d)-1].GivenUp {
					t.Errorf("%+v", d)
				}
				c := r.Conditions()
				if len(c) != 1 || c[0].Kind != "target_failing" || c[0].Target != "bad" || c[0].Message == "" || c[0].Since.IsZero() {
					t.Fatalf("%+v", c)
				}
				r.web.answers(nil)
				if d, err := r.TestTarget(t.Context(), alice, "bad"); err != nil || d.SentAt == nil {
					t.Errorf("%+v, %v", d, err)
				}
				if c := r.Conditions(); len(c) != 0 {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

func TestOfTooManyMessagesTheNewestAreKept(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.target(fleet.NewTarget{Name: "hc", Kind: "healthchecks", URL: secretOf("https://hc.example.net/{plan}")})
		r.web.answers(hang("hc"))
		for i := range 1010 {
			r.Ended(run(fmt.Sprintf("plan-%04d", i), fleet.RunSucceeded))
		}
		pass(20 * time.Second)
		left := 2
		r.web.answers(func(*http.Request) (int, error) {
			if left--; left < 0 {
				return http.StatusServiceUnavailable, nil
			}
			return http.StatusOK, nil
		})
		pass(2 * time.Minute)
		posts := r.web.got()
		if len(posts) != 2 {
			t.Fatalf("%d messages", len(posts))
		}
		first, second := string(posts[0].body), string(posts[1].body)
		if !strings.Contains(first, "10 messages before this one") || !strings.HasPrefix(posts[0].url, "https://hc.example.net/plan-0010?") {
			t.Errorf("%s: %s", posts[0].url, first)
		}
		if strings.Contains(second, "before this one") {
			t.Errorf("said again: %s", second)
		}
		old, _, err := r.Deliveries(t.Context(), "hc", 1, r.deliveries("hc")[0].ID)
		if err != nil || len(old) != 1 {
			t.Errorf("%+v, %v", old, err)
		}
	})
}

func TestWhatIsPutDownIsSentAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, w := t.TempDir(), &web{}
		r := start(t, dir, w)
		r.webhook("ops")
		w.answers(hang("ops"))
		r.raise(fleet.Condition{Plan: "daily"})
		pass(40 * time.Second)
		if d := r.deliveries("ops"); len(d) != 1 || d[0].SentAt != nil {
			t.Fatalf("%+v", d)
		}
		r.stop()
		w.answers(nil)
		r = start(t, dir, w)
		defer r.stop()
		pass(2 * time.Hour)
		want(t, r, "[borgfleet] critical: daily is overdue")
		if d := r.deliveries("ops"); len(d) != 1 || d[0].SentAt == nil || d[0].Error != "" {
			t.Errorf("%+v", d)
		}
	})
}

func TestResolvedIsToldAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, w := t.TempDir(), &web{}
		r := start(t, dir, w)
		r.webhook("ops")
		id := r.raise(fleet.Condition{Plan: "daily"})
		pass(time.Minute)
		r.resolve(id)
		r.stop() // before others could join it
		r = start(t, dir, w)
		defer r.stop()
		pass(time.Minute)
		want(t, r, "[borgfleet] critical: daily is overdue", "[borgfleet] resolved: daily is overdue")
	})
}

func TestATargetThatIsSwitchedOffOrRemovedGetsNothing(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("off")
		r.webhook("gone")
		r.web.answers(func(*http.Request) (int, error) { return http.StatusTeapot, nil })
		r.raise(fleet.Condition{Plan: "daily"})
		pass(time.Minute)
		r.target(fleet.NewTarget{Name: "off", Disabled: true})
		if err := r.RemoveTarget(t.Context(), alice, "gone"); err != nil {
			t.Fatal(err)
		}
		r.web.answers(nil)
		pass(48 * time.Hour)
		want(t, r)
		for _, name := range []string{"off", "gone"} {
			if d := r.deliveries(name); len(d) != 1 || !d[0].GivenUp || d[0].Error == "" {
				t.Errorf("%s: %+v", name, d)
			}
		}
	})
}

func TestANewAddressIsTriedAtOnce(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		r.web.answers(refuse("ops", http.StatusNotFound))
		r.raise(fleet.Condition{Plan: "daily"})
		pass(12 * time.Hour)
		r.target(fleet.NewTarget{Name: "ops", Kind: "webhook", URL: secretOf("https://other.example.net/")})
		pass(time.Second)
		want(t, r, "[borgfleet] critical: daily is overdue")
	})
}
