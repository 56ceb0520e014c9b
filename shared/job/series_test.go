package job_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestInSeries(t *testing.T) {
	tests := map[string]struct {
		series, name string
		want         bool
	}{
		"its own":                      {"web-", "web-2026-11-22T02:00:00", true},
		"second of its second":         {"web-", "web-2026-11-22T02:00:00-2", true},
		"its checkpoint":               {"web-", "web-2026-11-22T02:00:00.checkpoint", true},
		"a series that begins so":      {"web-", "web-db-2026-11-22T02:00:00", false},
		"a series with a digit more":   {"web-", "web-12026-11-22T02:00:00", false},
		"a series that it begins as":   {"web-db-", "web-2026-11-22T02:00:00", false},
		"no time":                      {"web-", "web-old", false},
		"a day":                        {"web-", "web-2026-11-22", false},
		"a day and a letter":           {"web-", "web-2026-11-22Three", false},
		"stars are literal":            {"w*-", "web-2026-11-22T02:00:00", false},
		"stars match themselves":       {"w*-", "w*-2026-11-22T02:00:00", true},
		"brackets are literal":         {"w[e]b-", "web-2026-11-22T02:00:00", false},
		"brackets match themselves":    {"w[e]b-", "w[e]b-2026-11-22T02:00:00", true},
		"question marks are literal":   {"w?b-", "web-2026-11-22T02:00:00", false},
		"braces are no placeholder":    {"{now}-", "{now}-2026-11-22T02:00:00", true},
		"nothing in front of the time": {"", "2026-11-22T02:00:00", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := job.InSeries(test.series, test.name); got != test.want {
				t.Errorf("InSeries(%q, %q) is %t", test.series, test.name, got)
			}
			if got := job.MatchesGlob(job.SeriesGlob(test.series), test.name); got != test.want {
				t.Errorf("the glob %s matches %q: %t", job.SeriesGlob(test.series), test.name, got)
			}
		})
	}
}

func TestPruneSeries(t *testing.T) {
	tests := map[string]struct {
		spec job.PruneSpec
		good bool
	}{
		"alone":             {job.PruneSpec{Series: "web1-daily-", KeepDaily: 7}, true},
		"with a prefix":     {job.PruneSpec{Series: "web1-daily-", Prefix: "web1-", KeepDaily: 7}, false},
		"with all":          {job.PruneSpec{Series: "web1-daily-", All: true, KeepDaily: 7}, false},
		"no name's begin":   {job.PruneSpec{Series: "web1/daily-", KeepDaily: 7}, false},
		"without a rule":    {job.PruneSpec{Series: "web1-daily-"}, false},
		"with a NUL byte":   {job.PruneSpec{Series: "web1\x00-", KeepDaily: 7}, false},
		"like an option":    {job.PruneSpec{Series: "-web1-", KeepDaily: 7}, false},
		"with a glob in it": {job.PruneSpec{Series: "web[1]*-", KeepDaily: 7}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.spec.Validate(); (err == nil) != test.good {
				t.Errorf("%+v: %v", test.spec, err)
			}
		})
	}
}
