package plan_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/shared/job"
)

func surroundings() fleet.World {
	return fleet.World{
		Hosts: []fleet.Host{
			{Name: "web1", Labels: map[string]string{"role": "web"}}, {Name: "web2", Labels: map[string]string{"role": "web"}}, {Name: "db1"}, {Name: "a"}, {Name: "a-b"},
		},
		Repositories: []fleet.Repository{
			{Repository: job.Repository{Name: "main"}},
			{Repository: job.Repository{Name: "vault", Location: job.DepotLocation}, Depot: &fleet.Depot{Hosts: []string{"web1"}}},
		},
	}
}

// simple is a plan without faults.
func simple() fleet.PlanSpec {
	return fleet.PlanSpec{Hosts: []string{"web1"}, Repositories: []string{"main"}, BackupSpec: job.BackupSpec{Paths: []string{"/etc"}}}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fleet.PlanSpec)
		want   string // part of the error; empty: there is none
	}{
		"none": {func(*fleet.PlanSpec) {}, ""},
		"everything": {func(p *fleet.PlanSpec) {
			p.Hosts, p.Selector = nil, map[string]string{"role": "web"}
			p.Schedule = &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin", Jitter: "30m", Window: "22:00-06:00", Overlap: fleet.OverlapQueue}
			p.Retention, p.After = &fleet.Retention{KeepDaily: 7}, []job.Kind{job.Prune, job.Compact}
			p.Check = &fleet.CheckPolicy{Every: "7d", VerifyData: "90d", MaxDuration: "1h", Window: "01:00-05:00"}
			p.RestoreTest = &fleet.RestoreTest{Every: "30d", Canary: true, Size: "2GiB", Host: "db1"}
			p.Dumps, p.Retry = []fleet.Dump{{Hook: "postgres-dump", Name: "pg"}}, &fleet.Retry{Attempts: 5, Wait: "1m"}
		}, ""},
		"dumps without files":     {func(p *fleet.PlanSpec) { p.Paths, p.Dumps = nil, []fleet.Dump{{Hook: "postgres-dump"}} }, ""},
		"retention without prune": {func(p *fleet.PlanSpec) { p.Retention = &fleet.Retention{KeepDaily: 1} }, ""},
		"for nobody":              {func(p *fleet.PlanSpec) { p.Hosts = nil }, "the plan is for nobody"},
		"hosts and selector":      {func(p *fleet.PlanSpec) { p.Selector = map[string]string{"role": "web"} }, "cannot be combined with hosts"},
		"nobody has the labels":   {func(p *fleet.PlanSpec) { p.Hosts, p.Selector = nil, map[string]string{"role": "mail"} }, "no host has these labels"},
		"unknown host":            {func(p *fleet.PlanSpec) { p.Hosts = []string{"web9"} }, `no host "web9"`},
		"a host twice":            {func(p *fleet.PlanSpec) { p.Hosts = []string{"web1", "web1"} }, "there twice"},
		"the coordinator":         {func(p *fleet.PlanSpec) { p.Hosts = []string{"coordinator"} }, "own machine"},
		"no repository":           {func(p *fleet.PlanSpec) { p.Repositories = nil }, "repositories: is missing"},
		"unknown repository":      {func(p *fleet.PlanSpec) { p.Repositories = []string{"nowhere"} }, `no repository "nowhere"`},
		"may not be used":         {func(p *fleet.PlanSpec) { p.Hosts, p.Repositories = []string{"web1", "web2"}, []string{"vault"} }, "vault may not be used by web2"},
		"may not be read for test": {func(p *fleet.PlanSpec) {
			p.Repositories, p.RestoreTest = []string{"vault"}, &fleet.RestoreTest{Every: "30d", Host: "db1"}
		}, "vault may not be used by db1"},
		"no paths":                 {func(p *fleet.PlanSpec) { p.Paths = nil }, "paths"},
		"an archive's name":        {func(p *fleet.PlanSpec) { p.Archive = "x" }, "archive_prefix says"},
		"a canary of its own":      {func(p *fleet.PlanSpec) { p.Canary = &job.Canary{} }, "makes its own canary"},
		"stdin_name alone":         {func(p *fleet.PlanSpec) { p.StdinName = "x" }, "only for content_from"},
		"prefix for several":       {func(p *fleet.PlanSpec) { p.Hosts, p.ArchivePrefix = []string{"web1", "web2"}, "x-" }, "the same on each host"},
		"prefix with a template":   {func(p *fleet.PlanSpec) { p.ArchivePrefix = "{hostname}-" }, "only {host} and {plan}"},
		"impossible cron":          {func(p *fleet.PlanSpec) { p.Schedule = &fleet.Schedule{Cron: "0 0 31 2 *"} }, "schedule.cron"},
		"unknown zone":             {func(p *fleet.PlanSpec) { p.Schedule = &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Mars/Base"} }, "schedule.timezone"},
		"unknown overlap":          {func(p *fleet.PlanSpec) { p.Schedule = &fleet.Schedule{Every: "1h", Overlap: "maybe"} }, "schedule.overlap"},
		"check after a backup":     {func(p *fleet.PlanSpec) { p.After = []job.Kind{job.Check} }, "does not follow a backup"},
		"prune without retention":  {func(p *fleet.PlanSpec) { p.After = []job.Kind{job.Prune} }, "what to keep"},
		"retention of nothing":     {func(p *fleet.PlanSpec) { p.Retention = &fleet.Retention{} }, "retention."},
		"check of nothing":         {func(p *fleet.PlanSpec) { p.Check = &fleet.CheckPolicy{} }, "neither every nor verify_data"},
		"restore test without age": {func(p *fleet.PlanSpec) { p.RestoreTest = &fleet.RestoreTest{} }, "restore_test.every"},
		"canary without paths": {func(p *fleet.PlanSpec) {
			p.Paths, p.ContentFrom, p.RestoreTest = nil, "x", &fleet.RestoreTest{Every: "1d", Canary: true}
		}, "only for plans with paths"},
		"unknown order":         {func(p *fleet.PlanSpec) { p.Order = "random" }, "parallel or sequential"},
		"stop without order":    {func(p *fleet.PlanSpec) { p.StopOnFailure = true }, "only for order: sequential"},
		"a hook with a path":    {func(p *fleet.PlanSpec) { p.Dumps = []fleet.Dump{{Hook: "../x"}} }, "dumps[0].hook"},
		"one name of two dumps": {func(p *fleet.PlanSpec) { p.Dumps = []fleet.Dump{{Hook: "x", Name: "n"}, {Hook: "y", Name: "n"}} }, "there twice"},
		"no length of time":     {func(p *fleet.PlanSpec) { p.MaxAge = "soon" }, "max_age"},
	} {
		t.Run(name, func(t *testing.T) {
			p := simple()
			c.change(&p)
			err := plan.CheckAll(map[string]fleet.PlanSpec{"daily": p}, nil, surroundings())
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	p := simple()
	p.Hosts, p.Order, p.MaxAge = []string{"web9"}, "random", "soon"
	err := plan.CheckAll(map[string]fleet.PlanSpec{"daily": p, "Bad Name": simple()}, nil, surroundings())
	for _, want := range []string{"hosts[0]: there is no host \"web9\"", "order", "max_age", "Bad Name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
	if fault, ok := errors.AsType[*fleet.ObjectError](err); !ok || fault.Object != "plan/Bad Name" {
		t.Errorf("%#v", err)
	}
}

func TestPlansThatStay(t *testing.T) {
	s := withPlans(t, 3, monday)
	service := newService(t, s, &taker{}, func() time.Time { return monday })
	world := fleet.World{Hosts: []fleet.Host{{Name: "host00000"}}, Repositories: []fleet.Repository{{Repository: job.Repository{Name: "main"}}}}
	err := service.CheckPlans(t.Context(), nil, []string{"plan-host00001"}, world)
	if fault, ok := errors.AsType[*fleet.ObjectError](err); !ok || fault.Object != "plan/plan-host00002" || strings.Contains(err.Error(), "host00001") {
		t.Errorf("%v", err)
	}
	if specs, err := service.Specs(t.Context()); err != nil || len(specs) != 3 {
		t.Errorf("%d plans, %v", len(specs), err)
	}
}

func TestPlansOfTheSameArchives(t *testing.T) {
	pruning := func(host, prefix string) fleet.PlanSpec {
		p := simple()
		p.Hosts, p.ArchivePrefix, p.Retention, p.After = []string{host}, prefix, &fleet.Retention{KeepDaily: 7}, []job.Kind{job.Prune}
		return p
	}
	adding := func(host, prefix string) fleet.PlanSpec {
		p := pruning(host, prefix)
		p.After = nil
		return p
	}
	for name, c := range map[string]struct {
		put, others map[string]fleet.PlanSpec
		clash       bool
	}{
		"two that prune":              {map[string]fleet.PlanSpec{"one": pruning("web1", "x-"), "two": pruning("web1", "x-")}, nil, true},
		"one that prunes":             {map[string]fleet.PlanSpec{"one": adding("web1", "x-")}, map[string]fleet.PlanSpec{"two": pruning("web1", "x-")}, true},
		"none that prunes":            {map[string]fleet.PlanSpec{"one": adding("web1", "x-")}, map[string]fleet.PlanSpec{"two": adding("web1", "x-")}, false},
		"a longer name":               {map[string]fleet.PlanSpec{"one": pruning("web1", "x-")}, map[string]fleet.PlanSpec{"two": pruning("web1", "x-db-")}, false},
		"the same by host and plan":   {map[string]fleet.PlanSpec{"b-c": pruning("a", ""), "c": pruning("a-b", "")}, nil, true},
		"the same plan, again":        {map[string]fleet.PlanSpec{"one": pruning("web1", "x-")}, nil, false},
		"names that plans have alone": {map[string]fleet.PlanSpec{"one": pruning("web1", ""), "two": pruning("web1", "")}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := plan.CheckAll(c.put, c.others, surroundings())
			if got := err != nil && strings.Contains(err.Error(), "would prune those of the other"); got != c.clash {
				t.Errorf("%v", err)
			}
		})
	}
}
