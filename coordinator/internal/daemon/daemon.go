// Package daemon builds the coordinator from its parts, runs it, and takes it
// down again. It is the one place that knows every part, and where the order
// of construction and teardown can be read:
//
//	data directory (locked) → store → vault → broker → registry → dispatch
//	→ agentlink, busapi, httpapi, web, metrics
//
// Everything that is closed is closed in the reverse order, after the actors
// have returned: the store last, so that nothing is written to a closed one.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/busapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/coordinator/internal/web"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// What lies in the data directory.
const (
	storeFile       = "borgfleet.db"
	keyFile         = "secrets.key"
	busDir          = "bus"
	logsDir         = "logs"
	operatorFile    = "operator.creds"
	startupPatience = 30 * time.Second
)

// Run runs the coordinator until ctx ends or a part fails. Faults that an
// operator can mend are *job.Failure, and nothing is left behind by them.
func Run(ctx context.Context, c config.Config, logger hclog.Logger) error {
	d := &daemon{config: c, logger: logger, feed: feed.New()}
	defer d.teardown()
	if err := d.build(ctx); err != nil {
		return err
	}
	return d.run(ctx)
}

// daemon holds the parts while they run. Fields are in the order in which they
// are built.
type daemon struct {
	config config.Config
	logger hclog.Logger
	feed   *feed.Feed

	listener net.Listener
	store    *store.Store
	broker   *broker.Broker
	registry *registry.Registry
	dispatch *dispatch.Service
	receiver *agentlink.Receiver
	busAPI   *busapi.Service
	metrics  *httpapi.Metrics
	server   *http.Server

	closers []func()
}

func (d *daemon) path(name string) string { return filepath.Join(d.config.Data, name) }

func (d *daemon) onTeardown(closer func()) { d.closers = append(d.closers, closer) }

// teardown closes what was built, last built first.
func (d *daemon) teardown() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
}

func (d *daemon) build(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.openData, d.listen, d.startBroker, d.buildService, d.buildEdges, d.announce,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openData makes the data directory and opens the store, whose lock keeps a
// second coordinator out.
func (d *daemon) openData(context.Context) error {
	if err := os.MkdirAll(d.config.Data, 0o700); err != nil {
		return dataFailure(d.config.Data, err)
	}
	opened, err := store.Open(d.path(storeFile), d.logger)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return dataFailure(d.config.Data, err)
		}
		return err
	}
	d.store = opened
	d.onTeardown(func() {
		if err := opened.Close(); err != nil {
			d.logger.Error("close store", "err", err)
		}
	})
	return nil
}

func dataFailure(dir string, err error) error {
	code, hint := job.Conflict, "give another one with --data"
	if errors.Is(err, fs.ErrPermission) {
		code, hint = job.NotAllowed, "run as the user that owns it, or give another one with --data"
	}
	return job.Fail(code, "the data directory %s cannot be used: %s", dir, err).WithHint("%s", hint)
}

// listen takes the HTTP port before anything else is started, since a port in
// use is the most common fault.
func (d *daemon) listen(context.Context) error {
	listener, err := net.Listen("tcp", d.config.HTTP.Listen)
	if err != nil {
		return job.Fail(job.Conflict, "cannot listen on http.listen %s: %s", d.config.HTTP.Listen, errors.Unwrap(err)).
			WithHint("is a coordinator running already? --http gives another address")
	}
	d.listener = listener
	d.onTeardown(func() { _ = listener.Close() }) // closed by the server already, if that ran
	return nil
}

func (d *daemon) startBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startupPatience)
	defer cancel()
	options := broker.Options{Dir: d.path(busDir), Listen: d.config.Bus.Listen, Logger: d.logger}
	if e := d.config.Bus.External; len(e.URLs) > 0 {
		options.External = &broker.External{
			URLs: e.URLs, CredentialsFile: e.CredentialsFile, APICredentialsFile: e.APICredentialsFile,
			AgentsCredentialsFile: e.AgentsCredentialsFile, SystemCredentialsFile: e.SystemCredentialsFile,
			SigningKeyFile: e.SigningKeyFile,
		}
	}
	started, err := broker.Start(ctx, options)
	if err != nil {
		return err
	}
	d.broker = started
	d.onTeardown(started.Close)
	if options.External != nil {
		return nil
	}
	return started.WriteOperatorCredentials(d.path(operatorFile), "local", bus.Admin)
}

// buildService builds what owns the state.
func (d *daemon) buildService(context.Context) error {
	hasSecrets, err := d.store.HasSecrets()
	if err != nil {
		return fmt.Errorf("look for stored secrets: %w", err)
	}
	sealed, err := vault.Open(d.path(keyFile), !hasSecrets)
	if err != nil {
		return err
	}
	presence := dispatch.NewPresence(time.Now)
	d.registry, err = registry.New(registry.Options{
		Store: d.store, Keyring: registry.NewKeyring(d.store, sealed), Revoker: d.broker, Presence: presence, Feed: d.feed,
		Removed: func(host string) { d.dispatch.HostRemoved(host) }, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.onTeardown(func() {
		if err := d.registry.Flush(); err != nil {
			d.logger.Error("store what hosts last said", "err", err)
		}
	})
	d.dispatch, err = dispatch.New(dispatch.Options{
		Store: d.store, Link: agentlink.New(d.broker.Agents(), d.broker.Signer()), Registry: d.registry, Presence: presence,
		Feed: d.feed, LogDir: d.path(logsDir), Version: build.Version, Logger: d.logger,
		Limits:  dispatch.Limits{Running: d.config.Limits.Running, PerHost: d.config.Limits.PerHost},
		History: dispatch.History{Keep: time.Duration(d.config.History.Keep), Jobs: d.config.History.Jobs},
	})
	return err
}

// buildEdges builds what translates between the service and the world.
func (d *daemon) buildEdges(context.Context) error {
	d.receiver = agentlink.NewReceiver(agentlink.Options{
		Agents: d.broker.Agents(), System: d.broker.System(), Account: d.broker.AgentsAccount(), Stream: d.broker,
		Sessions: d.dispatch, Ingest: d.dispatch, HostByKey: d.registry.HostByKey, Logger: d.logger,
	})
	d.busAPI = busapi.New(busapi.Options{
		Connection: d.broker.API(), Identities: d.broker, Jobs: d.dispatch, Overview: d.dispatch, Inventory: d.registry, Feed: d.feed, Logger: d.logger,
	})
	d.metrics = httpapi.NewMetrics(httpapi.MetricsOptions{Snapshot: d.dispatch, Feed: d.feed, Logger: d.logger})
	mux := http.NewServeMux()
	pages, err := web.New(web.Options{
		Status: d.dispatch, Jobs: d.dispatch, Actions: d.dispatch, Hosts: d.registry, Repositories: d.registry, Feed: d.feed,
		Logger: d.logger, Version: build.Version, DataDir: d.config.Data, BusURL: d.broker.URL(),
	})
	if err != nil {
		return err
	}
	mux.Handle("/", pages)
	api, err := httpapi.New(httpapi.Options{
		Mux: mux, Jobs: d.dispatch, Logs: d.dispatch, Statuses: d.dispatch, Hosts: d.registry, Repositories: d.registry,
		Feed: d.feed, Metrics: d.metrics, Names: d.config.HTTP.Names(), Logger: d.logger,
		Ready: []httpapi.Check{
			{Name: "bus", Check: func(context.Context) error { return d.broker.Healthy() }},
			{Name: "store", Check: func(context.Context) error { return d.store.Healthy() }},
		},
	})
	if err != nil {
		return err
	}
	d.server = httpapi.NewServer(api, d.logger)
	return nil
}

// announce says where the coordinator listens: in its log, and in a file for
// the command line.
func (d *daemon) announce(context.Context) error {
	endpoints := Endpoints{HTTP: "http://" + d.listener.Addr().String(), Bus: d.broker.URL()}
	path := d.path(EndpointsFile)
	if err := endpoints.write(path); err != nil {
		return err
	}
	d.onTeardown(func() { _ = os.Remove(path) }) // a stale one only misleads
	d.logger.Info("borgfleet runs", "version", build.Version, "page", endpoints.HTTP, "bus", endpoints.Bus, "data", d.config.Data)
	d.logger.Info("every listener is bound to loopback only: hosts elsewhere cannot connect yet")
	return nil
}
