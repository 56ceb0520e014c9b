package dispatch

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPresence(t *testing.T) {
	type check struct {
		online  bool
		absence string
	}
	tests := map[string]struct {
		steps func(p *Presence)
		want  check
	}{
		"never seen": {
			steps: func(*Presence) {},
			want:  check{false, "host web1 has never connected"},
		},
		"seen before the coordinator's start": {
			steps: func(p *Presence) { p.seed("web1", time.Now().Add(-time.Hour), time.Time{}) },
			want:  check{false, "host web1 has not said hello since the coordinator started"},
		},
		"seen before the coordinator's start, and not in time after it": {
			steps: func(p *Presence) { p.seed("web1", time.Now().Add(-time.Hour), time.Time{}); time.Sleep(silence) },
			want:  check{false, "host web1 offline since 1999-12-31 23:00:00 UTC"},
		},
		"connected, hello to come": {
			steps: func(p *Presence) { p.connected("web1") },
			want:  check{true, "host web1 has just connected and not said hello yet"},
		},
		"hello": {
			steps: func(p *Presence) { p.connected("web1"); p.hello("web1") },
			want:  check{true, ""},
		},
		"hello without a notice": {
			steps: func(p *Presence) { p.hello("web1") },
			want:  check{true, ""},
		},
		"gone": {
			steps: func(p *Presence) { p.hello("web1"); time.Sleep(time.Second); p.disconnected("web1") },
			want:  check{false, "host web1 offline since 00:00:01 UTC"},
		},
		"gone after it had two connections": { // one dead and not noticed; the notice tells of the last one's end
			steps: func(p *Presence) {
				p.connected("web1")
				p.hello("web1")
				p.connected("web1")
				p.hello("web1")
				p.disconnected("web1")
			},
			want: check{false, "host web1 offline since 00:00:00 UTC"},
		},
		"reconnected, must say hello again": {
			steps: func(p *Presence) { p.hello("web1"); p.disconnected("web1"); p.connected("web1") },
			want:  check{true, "host web1 has just connected and not said hello yet"},
		},
		"removed, and added again": {
			steps: func(p *Presence) { p.connected("web1"); p.hello("web1"); p.Forget("web1") },
			want:  check{false, "host web1 has never connected"},
		},
		"nobody listened": {
			steps: func(p *Presence) { p.connected("web1"); p.connected("web1"); p.hello("web1"); p.away("web1") },
			want:  check{false, "host web1 offline since 00:00:00 UTC"},
		},
		"silent for too long": {
			steps: func(p *Presence) { p.hello("web1"); time.Sleep(silence); p.expire() },
			want:  check{false, "host web1 offline since 00:01:30 UTC"},
		},
		"not yet silent for too long": {
			steps: func(p *Presence) { p.hello("web1"); time.Sleep(silence - 1); p.expire() },
			want:  check{true, ""},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPresence(time.Now)
				test.steps(p)
				online, _ := p.Online("web1")
				if got := (check{online, p.absence("web1")}); got != test.want {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
			})
		})
	}
}
