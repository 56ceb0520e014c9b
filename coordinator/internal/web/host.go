package web

import (
	"context"
	"net/url"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	hostsPerPage = 100
	jobsOnPage   = 12 // newest jobs on the page of a host or a repository
)

// hostsPage is the data of the list of hosts.
type hostsPage struct {
	clock
	commands
	reader
	Hosts  []hostRow
	Total  int
	Online int
	Query  string // part of a name
	Show   string // "", online, offline, attention
	Next   string // address of the next page
	First  string // address of the first, when this is not it
}

func (s *site) hosts(ctx context.Context, query url.Values, c commands) (*view, error) {
	status, err := s.Status.Status(ctx)
	if err != nil {
		return nil, wrap("status", err)
	}
	page := &hostsPage{
		clock: s.moment(), commands: c, reader: readerOf(ctx), Total: status.HostsTotal, Online: status.HostsOnline,
		Query: query.Get("q"), Show: query.Get("show"),
	}
	page.choose(page.hosts(status), query.Get("after"))
	return &view{
		Title: "Hosts", Nav: "/hosts", Body: "hosts", Data: page,
		Live: []string{"hosts-summary", "host-list"}, Cares: caresForState,
	}, nil
}

// choose keeps the rows that the reader asked for: filtered, one page of them.
func (p *hostsPage) choose(rows []hostRow, after string) {
	for _, row := range rows {
		if !strings.Contains(row.Name, p.Query) || !p.shows(row) || row.Name <= after {
			continue
		}
		if len(p.Hosts) == hostsPerPage {
			p.Next = p.address(p.Hosts[hostsPerPage-1].Name)
			break
		}
		p.Hosts = append(p.Hosts, row)
	}
	if after != "" {
		p.First = p.address("")
	}
}

func (p *hostsPage) shows(row hostRow) bool {
	switch p.Show {
	case "online":
		return row.Reached()
	case "offline":
		return !row.Reached()
	case "attention":
		return row.Trouble != nil || !row.Reached()
	}
	return true
}

func (p *hostsPage) address(after string) string {
	return withQuery("/hosts", "q", p.Query, "show", p.Show, "after", after)
}

// withQuery is an address with those of the name and value pairs that are set.
func withQuery(address string, pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if len(values) == 0 {
		return address
	}
	return address + "?" + values.Encode()
}

// MoreHosts is for the list that this page shares with the overview.
func (p *hostsPage) MoreHosts() int { return 0 }

// hostPage is the data of one host's page.
type hostPage struct {
	hostRow
	commands
	reader
	Mounts  []mountRow
	Running []jobRow
	Jobs    []jobRow
	More    bool
	Form    *backupForm

	Plans    []freshRow   // how the plans that back it up stand
	Verified *verified    // the newest verification; nil: none
	Ways     []way        // to the repositories that it uses
	Keeps    bool         // hosts over SSH can be added and changed here
	Refused  *job.Failure // why the last action was not done
}

// host builds the page of a host. refused is the form as it was sent, when it
// could not be accepted.
func (s *site) host(ctx context.Context, name string, c commands, refused *backupForm) (*view, error) {
	h, err := s.Hosts.Host(ctx, name)
	if err != nil {
		return nil, err
	}
	now := s.moment()
	page := &hostPage{hostRow: hostRow{clock: now, HostView: h}, commands: c, reader: readerOf(ctx), Form: refused, Keeps: s.SSH != nil}
	jobs, err := s.Jobs.Jobs(ctx, job.Filter{Host: name, Limit: jobsOnPage})
	if err != nil {
		return nil, wrap("jobs of "+name, err)
	}
	page.Jobs, page.More = now.jobs(jobs.Jobs), jobs.Cursor != ""
	if page.Running, err = s.running(ctx, now, job.Filter{Host: name}); err != nil {
		return nil, err
	}
	if page.Mounts, err = s.mounts(ctx, job.Filter{Host: name}, ""); err != nil {
		return nil, err
	}
	page.Running = withoutMounts(page.Running)
	if err := s.connections(ctx, page); err != nil {
		return nil, err
	}
	if page.Plans, err = s.plansOf(ctx, now, name); err != nil {
		return nil, err
	}
	return &view{
		Title: name, Nav: "/hosts", Body: "host", Data: page,
		Live:     []string{"host-head", "host-facts", "host-plans", "mounts", "host-running", "host-verified", "host-ways", "host-jobs"},
		Cares:    func(u feed.Update) bool { return caresForState(u) && (u.Host == name || caresForPlans(u)) },
		Progress: mountProgress(page.Mounts, runningProgress("host-running", now, page.Running)),
		Fill: func(ctx context.Context) error {
			if !page.BacksUp() {
				return nil
			}
			form, err := s.fillBackupForm(ctx, h, page.Form)
			page.Form = form
			return err
		},
	}, nil
}

// running reads the jobs that a filter matches and that are on a host now.
func (s *site) running(ctx context.Context, now clock, filter job.Filter) ([]jobRow, error) {
	var rows []jobRow
	for _, state := range []job.State{job.Running, job.Sent} {
		filter.State = state
		found, err := s.Jobs.Jobs(ctx, filter)
		if err != nil {
			return nil, wrap("running jobs", err)
		}
		rows = append(rows, now.jobs(found.Jobs)...)
	}
	return rows, nil
}

// Skewed reports whether the host's clock is off by enough to confuse readers.
func (p *hostPage) Skewed() bool {
	return p.Facts != nil && (p.Facts.ClockSkew > 2 || p.Facts.ClockSkew < -2)
}

// Skew says it.
func (p *hostPage) Skew() string {
	if p.Facts.ClockSkew < 0 {
		return human.Seconds(-p.Facts.ClockSkew) + " behind"
	}
	return human.Seconds(p.Facts.ClockSkew) + " ahead"
}

// hostKey is one of a host's public keys.
type hostKey struct {
	Use         string
	Fingerprint string // short enough to compare by eye
	Whole       string
}

// Keys are the host's public keys; their secret halves have never left it.
func (p *hostPage) Keys() []hostKey {
	var list []hostKey
	keys := []hostKey{{Use: "Bus identity", Whole: p.PublicKey}, {Use: "Sealing key", Whole: p.SealKey}}
	if p.Staged != nil {
		keys = append(keys, hostKey{Use: "Next bus identity", Whole: p.Staged.PublicKey})
	}
	for _, key := range keys {
		if n := len(key.Whole); n > 12 {
			key.Fingerprint = key.Whole[:6] + "…" + key.Whole[n-6:]
			list = append(list, key)
		}
	}
	if whole := fingerprint(p.SSHKey); whole != "" {
		list = append(list, hostKey{Use: "SSH key", Fingerprint: whole[:19] + "…", Whole: whole})
	}
	return list
}
