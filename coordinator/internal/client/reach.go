package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hop is a server on the way to a host, as the API takes it.
type hop struct {
	Address  string   `json:"address"`
	HostKeys []string `json:"host_keys"`
}

func hops(jump []fleet.SSHHop) []hop {
	list := make([]hop, len(jump))
	for i, server := range jump {
		list[i] = hop(server)
	}
	return list
}

// access is how a host is reached over SSH, as the API takes it.
type access struct {
	hop
	Jump  []hop  `json:"jump,omitempty"`
	Sudo  bool   `json:"sudo,omitempty"`
	Borg  string `json:"borg,omitempty"`
	Dir   string `json:"dir,omitempty"`
	Hooks string `json:"hooks,omitempty"`
	Slots int    `json:"slots,omitempty"`
}

func accessOf(a fleet.SSHAccess) access {
	return access{
		hop: hop{a.Address, a.HostKeys}, Jump: hops(a.Jump), Sudo: a.Sudo, Borg: a.Borg, Dir: a.Dir, Hooks: a.Hooks, Slots: a.Slots,
	}
}

// AddSSHHost adds a host that the coordinator connects to.
func (c *Client) AddSSHHost(ctx context.Context, asked fleet.NewSSHHost) (fleet.HostView, error) {
	type ssh struct {
		access
		Reach  fleet.Reach `json:"reach,omitempty"`
		OwnKey bool        `json:"own_key,omitempty"`
		Key    string      `json:"key,omitempty"`
	}
	request := struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels,omitempty"`
		SSH    ssh               `json:"ssh"`
	}{asked.Name, asked.Labels, ssh{accessOf(asked.SSHAccess), asked.Reach, asked.OwnKey, string(asked.Key.Reveal())}}
	var added fleet.HostView
	return added, c.call(ctx, http.MethodPost, "/hosts", request, &added)
}

// ChangeHost changes how a host is reached, and whether it is backed up.
func (c *Client) ChangeHost(ctx context.Context, name string, asked fleet.HostChange) (fleet.HostView, error) {
	request := struct {
		SSH      *access            `json:"ssh,omitempty"`
		Key      string             `json:"key,omitempty"`
		Reach    *fleet.Reach       `json:"reach,omitempty"`
		Disabled *bool              `json:"disabled,omitempty"`
		Labels   *map[string]string `json:"labels,omitempty"`
	}{nil, string(asked.Key.Reveal()), asked.Reach, asked.Disabled, nil}
	if asked.Labels != nil {
		request.Labels = &asked.Labels
	}
	if asked.SSH != nil {
		ssh := accessOf(*asked.SSH)
		request.SSH = &ssh
	}
	var changed fleet.HostView
	return changed, c.slowCall(ctx, http.MethodPatch, "/hosts/"+url.PathEscape(name), request, &changed)
}

// ScanSSH returns the keys with which an SSH server proves itself to the
// coordinator, over servers on the way whose keys are known.
func (c *Client) ScanSSH(ctx context.Context, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error) {
	request := struct {
		Address string `json:"address"`
		Jump    []hop  `json:"jump,omitempty"`
	}{address, hops(jump)}
	var answer struct {
		Keys []fleet.ShownKey `json:"keys"`
	}
	err := c.slowCall(ctx, http.MethodPost, "/ssh/scan", request, &answer)
	return answer.Keys, err
}

// SSHKey returns the public key that the coordinator shows to hosts without one
// of their own.
func (c *Client) SSHKey(ctx context.Context) (string, error) {
	var answer struct {
		PublicKey string `json:"public_key"`
	}
	err := c.call(ctx, http.MethodGet, "/ssh/key", nil, &answer)
	return answer.PublicKey, err
}

// VerifyHost looks at a host over SSH anew, and submits a job that verifies it.
// When it returns, the job is stored.
func (c *Client) VerifyHost(ctx context.Context, request job.Request, spec job.VerifySpec) (job.Job, error) {
	body := struct {
		Repository string `json:"repository,omitempty"`
		Timeout    int    `json:"timeout,omitempty"`
		ExpiresIn  int    `json:"expires_in,omitempty"`
		job.VerifySpec
	}{request.Repository, request.Timeout, request.ExpiresIn, spec}
	var submitted job.Job
	return submitted, c.slowCall(ctx, http.MethodPost, "/hosts/"+url.PathEscape(request.Host)+"/verify", body, &submitted)
}

// Conversion is what was done to give a host an agent.
type Conversion struct {
	Steps   []fleet.ConvertStep `json:"steps"`
	Failure *job.Failure        `json:"failure"` // why the host has none; null: it has
}

// ConvertHost gives a host over SSH an agent.
func (c *Client) ConvertHost(ctx context.Context, name string) (Conversion, error) {
	var done Conversion
	return done, c.slowCall(ctx, http.MethodPost, "/hosts/"+url.PathEscape(name)+"/convert", nil, &done)
}

// Depot returns what there is to know of the coordinator's depot.
func (c *Client) Depot(ctx context.Context) (fleet.DepotView, error) {
	var depot fleet.DepotView
	return depot, c.call(ctx, http.MethodGet, "/depot", nil, &depot)
}

// AllowHost lets a host, or all with "*", use a repository in the depot.
func (c *Client) AllowHost(ctx context.Context, repository, host string) (fleet.RepositoryView, error) {
	return c.admit(ctx, http.MethodPut, repository, host)
}

// DenyHost takes that from it.
func (c *Client) DenyHost(ctx context.Context, repository, host string) (fleet.RepositoryView, error) {
	return c.admit(ctx, http.MethodDelete, repository, host)
}

func (c *Client) admit(ctx context.Context, method, repository, host string) (fleet.RepositoryView, error) {
	var view fleet.RepositoryView
	return view, c.call(ctx, method, "/repositories/"+url.PathEscape(repository)+"/hosts/"+url.PathEscape(host), nil, &view)
}

// Transactions returns the changes of a repository in the depot, oldest first.
func (c *Client) Transactions(ctx context.Context, repository string) ([]fleet.Transaction, error) {
	var answer struct {
		Transactions []fleet.Transaction `json:"transactions"`
	}
	err := c.call(ctx, http.MethodGet, "/repositories/"+url.PathEscape(repository)+"/transactions", nil, &answer)
	return answer.Transactions, err
}

// Unfreeze submits the job with whose end a frozen repository is taken as it is.
func (c *Client) Unfreeze(ctx context.Context, repository, reason string) (job.Job, error) {
	var submitted job.Job
	request := map[string]string{"reason": reason}
	return submitted, c.slowCall(ctx, http.MethodPost, "/repositories/"+url.PathEscape(repository)+"/unfreeze", request, &submitted)
}

// Rollback undoes the changes of a frozen repository after a transaction.
func (c *Client) Rollback(ctx context.Context, repository string, to int, reason string) (fleet.RepositoryView, error) {
	var view fleet.RepositoryView
	request := struct {
		Transaction int    `json:"transaction"`
		Reason      string `json:"reason"`
	}{to, reason}
	return view, c.slowCall(ctx, http.MethodPost, "/repositories/"+url.PathEscape(repository)+"/rollback", request, &view)
}
