package web

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

const plansPerPage = 100

// plansPage is the data of the list of plans.
type plansPage struct {
	clock
	commands
	reader
	Plans []planRow
	Total int
	Sums  planSums
	Query string // part of a name
	State fleet.FreshState
	Next  string // address of the next page
	First string // address of the first, when this is not it
}

// planSums is how many plans are in which state.
type planSums map[fleet.FreshState]int

// String says it in a sentence, the worst first.
func (s planSums) String() string {
	total := 0
	var parts []string
	for _, state := range freshStates() {
		if n := s[state]; n > 0 {
			total += n
			parts = append(parts, human.Count(n)+" "+string(state))
		}
	}
	switch {
	case total == 0:
		return "No plans yet"
	case s[fleet.Fresh] == total && total == 1:
		return "1 plan: fresh"
	case s[fleet.Fresh] == total:
		return human.Count(total) + " plans: all fresh"
	}
	return fmt.Sprintf("%s: %s", human.Plural(total, "plan"), strings.Join(parts, ", "))
}

// sumPlans counts plans by how they stand; nil when there are no pages of them. It
// reads nothing that is stored, as the overview is looked at all day.
func (s *site) sumPlans(ctx context.Context) (planSums, error) {
	if s.Plans == nil {
		return nil, nil
	}
	rows, err := s.Plans.Freshness(ctx)
	if err != nil {
		return nil, wrap("freshness", err)
	}
	worst := map[string]int{}
	for _, row := range rows {
		rank := slices.Index(freshStates(), row.State)
		if known, there := worst[row.Plan]; !there || rank < known {
			worst[row.Plan] = rank
		}
	}
	sums := planSums{}
	for _, rank := range worst {
		sums[freshStates()[max(rank, 0)]]++
	}
	return sums, nil
}

// plansOf reads how the plans stand that back up a host.
func (s *site) plansOf(ctx context.Context, now clock, host string) (rows []freshRow, err error) {
	if s.Plans == nil {
		return nil, nil
	}
	all, err := s.Plans.Freshness(ctx)
	for _, f := range all {
		if f.Host == host {
			rows = append(rows, freshRow{now, f})
		}
	}
	return rows, wrap("freshness", err)
}

func (s *site) plans(ctx context.Context, query url.Values, c commands) (*view, error) {
	list, err := s.Plans.Plans(ctx)
	if err != nil {
		return nil, wrap("plans", err)
	}
	page := &plansPage{
		clock: s.moment(), commands: c, reader: readerOf(ctx), Total: len(list), Sums: planSums{},
		Query: query.Get("q"), State: fleet.FreshState(query.Get("state")),
	}
	for _, p := range list {
		page.Sums[p.State]++
	}
	page.choose(list, query.Get("after"))
	return &view{
		Title: "Plans", Nav: "/plans", Body: "plans", Data: page, Live: []string{"plans-summary", "plan-list"}, Cares: caresForPlans,
	}, nil
}

// caresForPlans reports whether an update may change how plans stand.
func caresForPlans(u feed.Update) bool { return u.Type == feed.PlanChanged || u.Type == feed.Missed }

// choose keeps the rows that the reader asked for: filtered, one page of them.
func (p *plansPage) choose(list []fleet.PlanView, after string) {
	for _, plan := range list {
		if !strings.Contains(plan.Name, p.Query) || (p.State != "" && plan.State != p.State) || plan.Name <= after {
			continue
		}
		if len(p.Plans) == plansPerPage {
			p.Next = p.address(p.Plans[plansPerPage-1].Name)
			break
		}
		p.Plans = append(p.Plans, planRow{p.clock, plan})
	}
	if after != "" {
		p.First = p.address("")
	}
}

func (p *plansPage) address(after string) string {
	return withQuery("/plans", "q", p.Query, "state", string(p.State), "after", after)
}

// StateChoices is the menu of states.
func (p *plansPage) StateChoices() []choice { return choices(p.State, "any state", freshStates()) }

// exampleManifest is a file with one plan, to begin with.
const exampleManifest = `cat > fleet.yaml <<'END'
plans:
  web1-daily:
    hosts: [web1]
    repositories: [main]
    paths: [/etc, /srv]
    schedule: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 15m}
    retention: {keep_daily: 7, keep_weekly: 4, keep_monthly: 6}
    after: [prune, compact]
    check: {every: 7d}
    restore_test: {every: 30d, canary: true}
END
`

// ExampleApply writes a file with a plan, and applies it.
func (c commands) ExampleApply() string {
	return exampleManifest + c.ApplyFile()
}

// ExportPlans writes them into the file that is applied.
func (c commands) ExportPlans() string { return c.borgfleet("export") + " > fleet.yaml" }

// ApplyFile applies it.
func (c commands) ApplyFile() string { return c.borgfleet("apply", "-f", "fleet.yaml") }

// ExamplePlan adds one plan without a file.
func (c commands) ExamplePlan() string {
	return c.borgfleet("plan", "add", "web1-daily", "--host", "web1", "--repo", "main", "--cron", "0 2 * * *", "--keep-daily", "7", "/etc", "/srv")
}

// ListPlans prints them.
func (c commands) ListPlans() string { return c.borgfleet("plan", "list") }
