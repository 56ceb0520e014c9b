package daemon

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/busapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/oidc"
	"github.com/borgfleet/borgfleet/coordinator/internal/web"
	"github.com/borgfleet/borgfleet/shared/build"
)

// buildEdges builds what translates between the service and the world.
func (d *daemon) buildEdges(context.Context) error {
	d.receiver = agentlink.NewReceiver(agentlink.Options{
		Agents: d.broker.Agents(), System: d.broker.System(), Account: d.broker.AgentsAccount(), Stream: d.broker,
		Sessions: agents{d}, Ingest: d.dispatch, HostByKey: d.registry.HostByKey, Logger: d.logger,
	})
	d.busAPI = busapi.New(busapi.Options{
		Connection: d.broker.API(), Identities: d.broker, Jobs: d.gate.Jobs(d.dispatch), Overview: d.dispatch, Inventory: d.registry,
		Archives: d.dispatch, Catalog: d.catalog, Feed: d.feed, Plans: d.gate.Plans(d.plans), Logger: d.logger,
	})
	d.metrics = httpapi.NewMetrics(httpapi.MetricsOptions{
		Snapshot: d.dispatch, Feed: d.feed, Logger: d.logger, Refusals: d.broker.Refusals, Depot: d.depotUses(), Expiry: d.authority.Expires,
	})
	mux := http.NewServeMux()
	if err := d.addPages(mux); err != nil {
		return err
	}
	return d.addAPI(mux)
}

func (d *daemon) addPages(mux *http.ServeMux) error {
	provider, err := d.addProvider(mux)
	if err != nil {
		return err
	}
	hosts, jobs, audit := d.gate.Hosts(d.registry), d.gate.Jobs(d.dispatch), d.gate.Audit(d.store)
	reach, kept := d.gate.Connections(connections{d}), d.gate.Depot(d.caretaker, d.dispatch)
	pages, err := web.New(web.Options{
		Status: d.dispatch, Jobs: d.dispatch, Actions: jobs, Hosts: hosts, Repositories: d.registry, Archives: d.dispatch, Catalog: d.catalog,
		Enroller: d.gate.Enrolment(d.enrol), Remover: hosts, Sessions: d.access, Passwords: d.access, Users: d.gate.People(d.access),
		Tokens: d.gate.Tokens(d.access), Credentials: d.gate.Credentials(d.access), Audit: audit, Feed: d.feed,
		CountLogin: d.metrics.CountLogin, OIDCName: provider,
		SSH: hosts, Connections: reach, Depot: kept, Keeper: d.gate.Repositories(d.registry),
		Plans: d.gate.Plans(d.plans), Alerts: d.gate.Alerts(d.alerts), Notify: d.gate.Notifications(d.notify),
		Logger: d.logger, Version: build.Version, DataDir: d.config.Data,
	})
	if err != nil {
		return err
	}
	mux.Handle("/", pages)
	return nil
}

// addProvider lets people sign in with an identity provider, if there is one,
// and returns what it is called.
func (d *daemon) addProvider(mux *http.ServeMux) (name string, err error) {
	c := d.config.OIDC
	if !c.Enabled() {
		return "", nil
	}
	handler, err := oidc.New(oidc.Options{
		Issuer: c.Issuer, ClientID: c.ClientID, ClientSecretFile: c.ClientSecretFile,
		NameClaim: c.NameClaim, RoleClaim: c.RoleClaim, Roles: c.Roles, URL: d.pageURL(),
		SignIn: d.access.SignIn, StartSession: d.access.StartSession, Logger: d.logger,
	})
	if err != nil {
		return "", err
	}
	mux.Handle(oidc.Path, handler)
	mux.Handle(oidc.Path+"/", handler)
	return handler.Name(), nil
}

func (d *daemon) addAPI(mux *http.ServeMux) error {
	api, err := httpapi.New(httpapi.Options{
		Mux: mux, Jobs: d.gate.Jobs(d.dispatch), Logs: d.dispatch, Statuses: d.dispatch, Hosts: d.gate.Hosts(d.registry),
		Repositories: d.gate.Repositories(d.registry), Operations: d.gate.Operations(d.dispatch, d.registry), Feed: d.feed, Metrics: d.metrics,
		Archives: d.dispatch, Catalog: d.catalog, Downloads: d.transfer,
		Authenticator: d.access, Logins: d.access, People: d.gate.People(d.access), Tokens: d.gate.Tokens(d.access),
		Credentials: d.gate.Credentials(d.access), Enrolment: d.gate.Enrolment(d.enrol), Audit: d.gate.Audit(d.store),
		Connections: d.gate.Connections(connections{d}), Depot: d.gate.Depot(d.caretaker, d.dispatch),
		Plans: d.gate.Plans(d.plans), Alerts: d.gate.Alerts(d.alerts), Notifications: d.gate.Notifications(d.notify),
		Manifests: d.gate.Manifests(d.manifests),
		State:     d.gate.State(d.keeper()), URL: d.pageURL(), Names: d.config.Names(), Logger: d.logger,
		Ready: []httpapi.Check{
			{Name: "bus", Trouble: "the bus is away, or takes no events", Check: func(context.Context) error { return d.broker.Healthy() }},
			{Name: "store", Trouble: "the database cannot be written", Check: func(context.Context) error { return d.store.Healthy() }},
			{Name: "disk", Trouble: "the space on the disk is not known", Check: func(context.Context) error { return d.disk.Healthy() }},
		},
	})
	if err != nil {
		return err
	}
	d.server = httpapi.NewServer(api, d.logger)
	return nil
}
