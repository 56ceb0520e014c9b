package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// PageQuery is what every list takes. It is exported because huma passes over
// embedded types that are not.
type PageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"how many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"from the page before, for the next one"`
}

type hostInput struct {
	Host string `path:"host" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" example:"web1" doc:"the host's name"`
}

type newHostInput struct {
	Body NewHost
}

// NewHost is a request to add a host.
type NewHost struct {
	Name   string            `json:"name" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" doc:"what it is called from now on"`
	Labels map[string]string `json:"labels,omitempty" maxProperties:"64" doc:"free text by key, for people and filters"`
	SSH    *NewSSHHost       `json:"ssh,omitempty" doc:"how the coordinator connects to it; left out: it has an agent, which connects to the coordinator"`
}

type hostOutput struct{ Body fleet.HostView }

type addedHostOutput struct {
	Location string `header:"Location" doc:"where the new host is"`
	Body     fleet.HostView
}

type hostsOutput struct{ Body HostPage }

// HostPage is one page of hosts.
type HostPage struct {
	Hosts  []fleet.HostView `json:"hosts"`
	Cursor string           `json:"cursor"`
}

func unknownHost() job.Failure {
	return job.Failure{Code: job.UnknownHost, Message: `there is no host "web9"`, Hint: "borgfleet host list shows the hosts"}
}

func (a *API) registerHosts() {
	list := operation{
		id: "list-hosts", method: http.MethodGet, path: "/hosts", tag: tagHosts, status: http.StatusOK,
		summary: "List hosts by name", answer: HostPage{Hosts: []fleet.HostView{exampleHost()}},
	}
	huma.Register(a.huma, list.huma(a), a.listHosts)
	get := operation{
		id: "get-host", method: http.MethodGet, path: "/hosts/{host}", tag: tagHosts, status: http.StatusOK,
		summary: "Show a host", answer: exampleHost(), failures: []job.Failure{unknownHost()},
	}
	huma.Register(a.huma, get.huma(a), a.getHost)
	add := operation{
		id: "add-host", method: http.MethodPost, path: "/hosts", tag: tagHosts, status: http.StatusCreated,
		summary: "Add a host", needs: bus.Admin,
		description: "Without ssh it is only declared: a token from POST /enrolment-tokens lets its agent in. With ssh the coordinator connects to it from now on; POST /ssh/scan tells host_keys, and public_key of the answer's ssh belongs into ~/.ssh/authorized_keys there. Nothing is backed up from it before borg was found on it.",
		request:     NewHost{Name: "web1", Labels: map[string]string{"site": "fra"}},
		answer:      exampleHost(),
		failures:    []job.Failure{{Code: job.Conflict, Message: `there is already a host "web1"`, Hint: "choose another name"}},
	}
	huma.Register(a.huma, add.huma(a), a.addHost)
	remove := operation{
		id: "remove-host", method: http.MethodDelete, path: "/hosts/{host}", tag: tagHosts, status: http.StatusNoContent,
		summary: "Remove a host", needs: bus.Admin,
		description: "Its agent is cut off at once and for good, and its open jobs end. Its archives stay.",
		failures:    []job.Failure{unknownHost()},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, a.removeHost))
}

func (a *API) listHosts(ctx context.Context, in *PageQuery) (*hostsOutput, error) {
	hosts, err := a.options.Hosts.Hosts(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	page, next := pageOf(hosts, func(h fleet.HostView) string { return h.Name }, in.Limit, in.Cursor)
	return &hostsOutput{Body: HostPage{Hosts: completeHosts(page), Cursor: next}}, nil
}

func (a *API) getHost(ctx context.Context, in *hostInput) (*hostOutput, error) {
	host, err := a.options.Hosts.Host(ctx, in.Host)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &hostOutput{Body: completeHost(host)}, nil
}

func (a *API) addHost(ctx context.Context, in *newHostInput) (*addedHostOutput, error) {
	var host fleet.HostView
	var err error
	if in.Body.SSH != nil {
		host, err = a.addSSHHost(ctx, in.Body)
	} else {
		host, err = a.options.Hosts.AddHost(ctx, fleet.ActorOf(ctx), in.Body.Name, in.Body.Labels)
	}
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &addedHostOutput{Location: Prefix + "/hosts/" + host.Name, Body: completeHost(host)}, nil
}

func (a *API) removeHost(ctx context.Context, in *hostInput) error {
	return a.options.Hosts.RemoveHost(ctx, fleet.ActorOf(ctx), in.Host)
}
