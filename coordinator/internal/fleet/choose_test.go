package fleet_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func host(name string, online bool) fleet.HostView {
	return fleet.HostView{Host: fleet.Host{Name: name}, Online: online}
}

func TestChooseHost(t *testing.T) {
	many := make([]fleet.HostView, 102)
	for i := range many {
		many[i] = host(fmt.Sprintf("h%03d", i), true)
	}
	for name, test := range map[string]struct {
		hosts []fleet.HostView
		maker string
		want  string // the host, or what the hint says
		fails bool
	}{
		"the maker":             {[]fleet.HostView{host("db1", true), host("web1", true)}, "web1", "web1", false},
		"the only one":          {[]fleet.HostView{host("web1", false)}, "", "web1", false},
		"the maker, away":       {[]fleet.HostView{host("web1", false), host("db1", true)}, "web1", "one of db1, web1", true},
		"the maker, removed":    {[]fleet.HostView{host("db1", true), host("db2", true)}, "web1", "one of db1, db2", true},
		"the other one is left": {[]fleet.HostView{host("db1", true)}, "web1", "db1", false},
		"the depot's machine":   {[]fleet.HostView{{Host: fleet.Host{Name: fleet.LocalHost, Mode: fleet.ModeLocal}, Online: true}, host("web1", true)}, fleet.LocalHost, "web1", false},
		"none":                  {nil, "web1", "host token", true},
		"many":                  {many, "", "h099, and 2 more", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fleet.ChooseHost(test.hosts, test.maker)
			if !test.fails {
				if got != test.want || err != nil {
					t.Errorf("chose %q, %v; want %q", got, err, test.want)
				}
				return
			}
			if f := job.AsFailure(err); err == nil || f.Code != job.InvalidRequest || !strings.Contains(f.Hint, test.want) {
				t.Errorf("chose %q, %+v; want a hint with %q", got, f, test.want)
			}
		})
	}
}
