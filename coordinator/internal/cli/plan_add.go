package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type planAdd struct {
	onePlan
	Paths []string `arg:"" optional:"" help:"Absolute paths on the hosts."`
	File  string   `help:"The whole plan: YAML or JSON with the keys of one plan of fleet.yaml; - is standard input. Excludes all else." short:"f" placeholder:"FILE"`

	planPlace     `group:"Which hosts, and where to:"`
	planExcludes  `group:"What to back up:"`
	planTimes     `group:"When:"`
	planRetention `group:"What to keep:"`
	planCare      `group:"What belongs to it:"`
}

type planPlace struct {
	Host     []string          `help:"A host; may be repeated." placeholder:"HOST"`
	Selector map[string]string `help:"Or every host that has this label; may be repeated, and is then all of them." placeholder:"KEY=VALUE"`
	Repo     []string          `help:"A repository; may be repeated." placeholder:"REPOSITORY" aliases:"repository"`
}

type planExcludes struct {
	Exclude     []string `help:"Leave out what matches this borg pattern; may be repeated." placeholder:"PATTERN" sep:"none"`
	Compression string   `help:"none, lz4, zstd[,1-22], zlib[,0-9], lzma[,0-9], each also as auto,METHOD. Default: borg's, lz4." placeholder:"METHOD"`
	ContentFrom string   `help:"Instead of paths: what this hook of the hosts prints." placeholder:"HOOK"`
	Dump        []string `help:"Also what this hook prints, as an archive of its own; may be repeated." placeholder:"HOOK"`
}

type planTimes struct {
	Cron     string     `help:"Five fields (minute, hour, day, month, weekday), or @daily and the like." placeholder:"CRON"`
	Every    fleet.Span `help:"Or so often, for example 6h." placeholder:"TIME"`
	Timezone string     `help:"IANA name. Default: UTC." placeholder:"ZONE"`
	Jitter   fleet.Span `help:"Let each host begin later by a part of this." placeholder:"TIME"`
	Window   string     `help:"Hours in which jobs may begin: 22:00-06:00." placeholder:"HOURS"`
	CatchUp  fleet.Span `help:"Make up a missed run within this; 0s: never. Default: until the next is due." placeholder:"TIME"`
	MaxAge   fleet.Span `help:"How old the newest backup may be. Default: two periods and an hour." placeholder:"TIME"`
}

type planRetention struct {
	KeepWithin  string `help:"Keep everything within this interval, for example 2d." placeholder:"INTERVAL"`
	KeepLast    int    `help:"Keep the newest N." placeholder:"N"`
	KeepHourly  int    `help:"Keep N hourly archives." placeholder:"N"`
	KeepDaily   int    `help:"Keep N daily archives." placeholder:"N"`
	KeepWeekly  int    `help:"Keep N weekly archives." placeholder:"N"`
	KeepMonthly int    `help:"Keep N monthly archives." placeholder:"N"`
	KeepYearly  int    `help:"Keep N yearly archives." placeholder:"N"`
}

type planCare struct {
	Check        fleet.Span `help:"Check its repositories so often, for example 7d." placeholder:"TIME"`
	VerifyData   fleet.Span `help:"Read all their data so often, for example 90d." placeholder:"TIME"`
	RestoreTest  fleet.Span `help:"Restore a sample so often, for example 30d." placeholder:"TIME"`
	Before       []string   `name:"before-hook" help:"Run this hook of the hosts first; may be repeated." placeholder:"HOOK"`
	Afterwards   []string   `name:"after-hook" help:"Run this hook at the end, whatever happened; may be repeated." placeholder:"HOOK"`
	Sequential   bool       `help:"One host after the other."`
	Description  string     `help:"What it is for." placeholder:"TEXT"`
	NoCompaction bool       `name:"no-compact" help:"With --keep-…: do not free the space of pruned archives."`
}

// Help is the end of the command's help.
func (planAdd) Help() string {
	return `Examples:

    borgfleet plan add web1-daily --host web1 --repo web1-main --cron '0 2 * * *' --timezone Europe/Berlin --jitter 15m --keep-daily 7 --keep-weekly 4 /etc /var/www
    borgfleet plan add web-hourly --selector role=web --repo shared --every 1h /srv
    borgfleet plan show web1-daily --yaml | sed s/web1/web2/ | borgfleet plan add web2-daily -f -

With --keep-…, each good backup is followed by a prune and, at most daily, a compact. What flags cannot say, a file can.`
}

// Run runs the command.
func (c planAdd) Run(s *session) error {
	spec := c.spec()
	if c.File != "" {
		if !emptySpec(spec) {
			return console.Usage("--file is the whole plan (leave out the other flags and the paths)")
		}
		var err error
		if spec, err = s.readSpec(c.File); err != nil {
			return err
		}
	}
	return c.changed(s, "is added", func(api *client.Client) (fleet.PlanView, error) {
		return api.AddPlan(s.ctx, c.Name, spec)
	})
}

// emptySpec reports whether nothing was said of a plan.
func emptySpec(spec fleet.PlanSpec) bool {
	if len(spec.Paths) == 0 {
		spec.Paths = nil // and not an empty list
	}
	if len(spec.Repositories) == 0 {
		spec.Repositories = nil
	}
	said, err := json.Marshal(spec)
	nothing, none := json.Marshal(fleet.PlanSpec{})
	return err == nil && none == nil && string(said) == string(nothing)
}

func (c planAdd) spec() fleet.PlanSpec {
	spec := fleet.PlanSpec{
		Description: c.Description, Hosts: c.Host, Selector: c.Selector, Repositories: c.Repo, MaxAge: c.MaxAge,
		BackupSpec: job.BackupSpec{Paths: c.Paths, Exclude: c.Exclude, Compression: c.Compression, ContentFrom: c.ContentFrom},
	}
	for _, hook := range c.Dump {
		spec.Dumps = append(spec.Dumps, fleet.Dump{Hook: hook})
	}
	if c.Sequential {
		spec.Order = fleet.Sequential
	}
	schedule := fleet.Schedule{Cron: c.Cron, Every: c.Every, Timezone: c.Timezone, Jitter: c.Jitter, Window: c.Window, CatchUp: c.CatchUp}
	if schedule != (fleet.Schedule{}) {
		spec.Schedule = &schedule
	}
	if kept := fleet.Retention(c.planRetention); kept != (fleet.Retention{}) {
		spec.Retention, spec.After = &kept, []job.Kind{job.Prune, job.Compact}
		if c.NoCompaction {
			spec.After = spec.After[:1]
		}
	}
	if cmp.Or(c.Check, c.VerifyData) != "" {
		spec.Check = &fleet.CheckPolicy{Every: c.Check, VerifyData: c.VerifyData}
	}
	if c.RestoreTest != "" {
		spec.RestoreTest = &fleet.RestoreTest{Every: c.RestoreTest, Canary: c.ContentFrom == ""}
	}
	if len(c.Before)+len(c.Afterwards) > 0 {
		spec.Hooks = &job.Hooks{Before: c.Before, After: c.Afterwards}
	}
	return spec
}

// readSpec reads a plan's spec from a file or from standard input.
func (s *session) readSpec(file string) (spec fleet.PlanSpec, err error) {
	const enough = 1 << 20
	in := s.In
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return spec, fmt.Errorf("read the plan: %w", err)
		}
		defer opened.Close() // read only
		in = opened
	}
	text, err := io.ReadAll(io.LimitReader(in, enough))
	if err != nil {
		return spec, fmt.Errorf("read the plan: %w", err)
	}
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		return spec, console.Usage("%s is no YAML: %s", file, yaml.FormatError(err, false, false))
	}
	if err := job.DecodeStrict(data, &spec); err != nil {
		return spec, fmt.Errorf("%s: %w", file, err)
	}
	return spec, nil
}

type planChange struct {
	onePlan
	File string `required:"" help:"The whole plan: YAML or JSON, as plan show --yaml prints it; - is standard input." short:"f" placeholder:"FILE"`
}

// Run runs the command.
func (c planChange) Run(s *session) error {
	spec, err := s.readSpec(c.File)
	if err != nil {
		return err
	}
	return c.changed(s, "is changed", func(api *client.Client) (fleet.PlanView, error) {
		return api.ChangePlan(s.ctx, c.Name, spec)
	})
}
