package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

// size is a number of bytes, which may be given as borg does: 500G.
type size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (z *size) UnmarshalText(text []byte) error {
	number, unit := strings.ToUpper(string(text)), 1.0
	number = strings.TrimSuffix(number, "B")
	for i, letter := range "KMGTP" {
		if rest, found := strings.CutSuffix(number, string(letter)); found {
			number = rest
			for range i + 1 {
				unit *= 1000
			}
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0 && n*unit < 1<<62) {
		return fmt.Errorf("%q is not a size, such as 500G", text)
	}
	*z = size(n * unit)
	return nil
}

type depotCommands struct {
	Show depotShow `cmd:"" help:"Where the depot is, how it proves itself, and what went there and back."`
}

type depotShow struct{}

// Run runs the command.
func (depotShow) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	depot, err := api.Depot(s.ctx)
	if err != nil {
		return err
	}
	return s.show(depot, func() {
		t := newFacts(s.Out)
		t.row("address", depot.Address)
		t.row("proves itself by", depot.Fingerprint)
		t.end()
		if len(depot.Uses) == 0 {
			s.printf("No host has connected since the coordinator was started.\n")
			return
		}
		t = newTable(s.Out, "REPOSITORY", "OPEN", "CONNECTIONS", "REFUSED", "RECEIVED", "SENT")
		for _, use := range depot.Uses {
			t.row(use.Repository, strconv.Itoa(use.Open), strconv.FormatUint(use.Connections, 10), strconv.FormatUint(use.Refused, 10),
				human.Bytes(int64(min(use.Received, 1<<62))), human.Bytes(int64(min(use.Sent, 1<<62))))
		}
		t.end()
	})
}

type repoAllow struct {
	Name string `arg:"" name:"repository" help:"The repository's name."`
	Host string `arg:"" help:"The host's name, or '*' for all."`
}

// Run runs the command.
func (c repoAllow) Run(s *session) error {
	return s.admit(c.Name, c.Host, (*client.Client).AllowHost)
}

type repoDeny struct {
	Name string `arg:"" name:"repository" help:"The repository's name."`
	Host string `arg:"" help:"The host's name, or '*' for the permission of all."`
}

// Run runs the command.
func (c repoDeny) Run(s *session) error {
	return s.admit(c.Name, c.Host, (*client.Client).DenyHost)
}

// admission says whether a host may use a repository.
type admission func(*client.Client, context.Context, string, string) (fleet.RepositoryView, error)

func (s *session) admit(repository, host string, change admission) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	view, err := change(api, s.ctx, repository, host)
	if err != nil {
		return err
	}
	return s.show(view, func() { s.printf("Repository %s may be used by: %s\n", repository, users(view)) })
}

// users names who may use a repository in the depot.
func users(r fleet.RepositoryView) string {
	switch {
	case r.Depot == nil || len(r.Depot.Hosts) == 0:
		return "no host"
	case r.Depot.Admits("*"):
		return "every host"
	default:
		return strings.Join(r.Depot.Hosts, ", ")
	}
}

type repoTransactions struct {
	Name string `arg:"" name:"repository" help:"The repository's name."`
}

// Run runs the command.
func (c repoTransactions) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	transactions, err := api.Transactions(s.ctx, c.Name)
	if err != nil {
		return err
	}
	return s.show(transactions, func() {
		if len(transactions) == 0 {
			s.printf("Nothing was written to repository %s yet.\n", c.Name)
			return
		}
		t := newTable(s.Out, "TRANSACTION", "WRITTEN")
		for _, transaction := range transactions {
			t.row(strconv.Itoa(transaction.Number), localTime(transaction.At))
		}
		t.end()
	})
}

type repoUnfreeze struct {
	Name   string `arg:"" name:"repository" help:"The repository's name."`
	Reason string `required:"" help:"Why what is there is right, for the audit." placeholder:"TEXT"`
}

// Run runs the command.
func (c repoUnfreeze) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	submitted, err := api.Unfreeze(s.ctx, c.Name, c.Reason)
	if err != nil {
		return err
	}
	return s.watch(api, submitted.ID)
}

type repoRollback struct {
	Name   string `arg:"" name:"repository" help:"The repository's name."`
	To     int    `required:"" help:"The last transaction that stays; borgfleet repo transactions lists them." placeholder:"NUMBER"`
	Reason string `required:"" help:"Why, for the audit." placeholder:"TEXT"`
	Yes    bool   `help:"Do not ask whether you are sure." short:"y"`
}

// Run runs the command.
func (c repoRollback) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if !c.Yes {
		err := s.confirm(fmt.Sprintf("Put aside everything that was written to repository %s after transaction %d, also good backups? [y/N] ", c.Name, c.To),
			"this puts aside everything that was written since, also good backups (add --yes if you are sure)")
		if err != nil {
			return err
		}
	}
	view, err := api.Rollback(s.ctx, c.Name, c.To, c.Reason)
	if err != nil {
		return err
	}
	return s.show(view, func() {
		s.printf("Repository %s is as it was after transaction %d. What came later lies beside it, and can be deleted by hand.\n", c.Name, c.To)
		s.printf("Look at it, then: borgfleet repo unfreeze %s --reason TEXT\n", c.Name)
		s.printf("Where a host has seen what came later, its borg refuses the repository now. Once the host is in good hands:\n")
		for _, host := range acceptors(view) {
			s.printf("  borgfleet host verify %s --repo %s --accept-older\n", host, c.Name)
		}
	})
}

// acceptors are the hosts whose borg may have to be told that an older state of a
// repository is right.
func acceptors(r fleet.RepositoryView) []string {
	if r.Depot == nil || len(r.Depot.Hosts) == 0 || r.Depot.Admits("*") {
		return []string{"HOST"}
	}
	return r.Depot.Hosts
}

// depot says what is agreed for a repository in the depot.
func (t *table) depot(r fleet.RepositoryView) {
	d := r.Depot
	quota, hosts := "none", "hosts may add and delete"
	if d.Quota > 0 {
		quota = human.Bytes(d.Quota)
	}
	if d.AppendOnly {
		hosts = "hosts may add, and never delete; prune, delete and compact are the coordinator's, after it has looked whether all is there"
	}
	t.row("quota", quota)
	t.row("append-only", map[bool]string{true: "yes: ", false: "no: "}[d.AppendOnly]+hosts)
	t.row("used by", users(r))
	if d.Frozen == nil {
		return
	}
	t.row("FROZEN", human.Ago(d.Frozen.At, time.Now())+": "+d.Frozen.Reason)
	for i, name := range d.Frozen.Missing {
		t.row(first(i, "  missing"), name)
	}
	for i, name := range d.Frozen.Unknown {
		t.row(first(i, "  unknown"), name)
	}
}

// printFrozen says what can be done with a frozen repository.
func (s *session) printFrozen(r fleet.RepositoryView) {
	if r.Depot == nil || r.Depot.Frozen == nil {
		return
	}
	s.printf(`
Its archives are not those that were recorded, so nothing is deleted from it any more. Backups and restores go on. There are three ways on:
  it was right:          borgfleet repo unfreeze %[1]s --reason TEXT
  undo what was done:    borgfleet repo transactions %[1]s, then borgfleet repo rollback %[1]s --to NUMBER --reason TEXT
                         a host that has seen what is undone refuses the repository until: borgfleet host verify HOST --repo %[1]s --accept-older
  it is not known yet:   leave it so, and keep its hosts out meanwhile: borgfleet repo deny %[1]s HOST
`, r.Name)
}
