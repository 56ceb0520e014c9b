// Package daemon builds the coordinator from its parts, runs it, and takes it
// down again. It is the one place that knows every part, and where the order
// of construction and teardown can be read:
//
//	data directory (locked) → store → authority → broker → vault → registry → depot
//	→ dispatch → proxy → access → enrol → gate → catalog, transfer
//	→ notify → plan → alert → manifest
//	→ agentlink, hosts without an agent, busapi, httpapi, web, metrics
//
// Everything that is closed is closed in the reverse order, after the actors
// have returned: the store last, so that nothing is written to a closed one.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/alert"
	"github.com/borgfleet/borgfleet/coordinator/internal/authority"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/busapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/catalog"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/convert"
	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/enrol"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/gate"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
	"github.com/borgfleet/borgfleet/coordinator/internal/notify"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/transfer"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// What lies in the data directory.
const (
	storeFile       = state.DatabaseFile
	keyFile         = state.KeyFile
	busDir          = state.BusDir
	tlsDir          = state.TLSDir
	logsDir         = state.LogsDir
	listingsDir     = "listings"
	caFile          = "ca.pem"
	operatorFile    = "operator.creds"
	startupPatience = 30 * time.Second
)

// expiryNotice is how long before its end a certificate needs attention: its
// renewal, by itself or by whoever gave it, is late then.
const expiryNotice = 14 * 24 * time.Hour

// Options are what a daemon needs.
type Options struct {
	Config     config.Config // valid
	Supervisor []string      // command that runs process.Supervise; the directory is appended
	Out        io.Writer     // for what a person must see once, and no log must keep
	Logger     hclog.Logger
}

// Run runs the coordinator until ctx ends or a part fails. Faults that an
// operator can mend are *job.Failure, and nothing is left behind by them.
func Run(ctx context.Context, o Options) error {
	d := &daemon{config: o.Config, supervisor: o.Supervisor, out: o.Out, logger: o.Logger, feed: feed.New()}
	defer d.teardown()
	if err := d.build(ctx); err != nil {
		return err
	}
	return d.run(ctx)
}

// daemon holds the parts while they run. Fields are in the order in which they
// are built.
type daemon struct {
	config     config.Config
	supervisor []string
	out        io.Writer
	logger     hclog.Logger
	feed       *feed.Feed

	store     *store.Store
	disk      *disk
	authority *authority.Authority
	listener  net.Listener
	busCA     []byte // PEM, of whoever signed the bus's certificate; nil: whom every system trusts
	broker    *broker.Broker
	vault     *vault.Vault
	hostID    string // BORG_HOST_ID on this machine
	links     *links
	presence  *dispatch.Presence
	registry  *registry.Registry
	depot     *depot.Server // nil: there is none
	caretaker *registry.Caretaker
	dispatch  *dispatch.Service
	proxy     *proxy.Service
	posts     *posts
	access    *access.Service
	enrol     *enrol.Service
	gate      *gate.Gate
	convert   *convert.Service
	catalog   *catalog.Catalog
	transfer  *transfer.Service
	notify    *notify.Service
	plans     *plan.Service
	alerts    *alert.Service
	manifests *manifest.Service
	deadman   *notify.Deadman
	receiver  *agentlink.Receiver
	busAPI    *busapi.Service
	metrics   *httpapi.Metrics
	server    *http.Server

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
		d.openData, d.openAuthority, d.listen, d.startBroker, d.buildRegistry, d.openDepot, d.buildService, d.buildHosts, d.buildAccess, d.buildArchives, d.buildPlans, d.buildEdges, d.announce,
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
	if err := state.Whole(d.config.Data); err != nil {
		return err
	}
	opened, err := store.Open(d.path(storeFile), d.logger)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return dataFailure(d.config.Data, err)
		}
		return err
	}
	d.store = opened
	d.disk = &disk{dir: d.config.Data, store: opened, logger: d.logger.Named("disk")}
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

// openAuthority makes or reads what the server proves itself with.
func (d *daemon) openAuthority(context.Context) (err error) {
	c := d.config.TLS
	d.authority, err = authority.Open(authority.Options{
		Dir: d.path(tlsDir), Names: d.config.Names(), CertificateFile: c.CertificateFile, KeyFile: c.KeyFile, CAFile: c.CAFile, Logger: d.logger,
	})
	return err
}

// listen takes the HTTP port before anything else is started, since a port in
// use is the most common fault.
func (d *daemon) listen(context.Context) error {
	listener, err := net.Listen("tcp", d.config.HTTP.Listen)
	if err != nil {
		return job.Fail(job.Conflict, "cannot listen on http.listen %s: %s", d.config.HTTP.Listen, errors.Unwrap(err)).
			WithHint("is a coordinator running already? --http gives another address")
	}
	d.listener = authority.Listener(listener, d.authority.ServerConfig())
	d.onTeardown(func() { _ = d.listener.Close() }) // closed by the server already, if that ran
	return nil
}

// buildRegistry builds what knows hosts and repositories.
func (d *daemon) buildRegistry(context.Context) error {
	hasSecrets, err := d.store.HasSecrets()
	if err != nil {
		return fmt.Errorf("look for stored secrets: %w", err)
	}
	if d.vault, err = vault.Open(d.path(keyFile), !hasSecrets); err != nil {
		return err
	}
	d.presence = dispatch.NewPresence(time.Now)
	d.registry, err = registry.New(registry.Options{
		Store: d.store, Keyring: registry.NewKeyring(d.store, d.vault), Revoker: d.broker, Presence: d.presence, Feed: d.feed,
		Removed: func(host string) { d.dispatch.HostRemoved(host) },
		Problem: func(host string) *job.Failure { return d.posts.problem(host) }, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.broker.Admit(func(publicKey string) bool {
		_, known := d.registry.HostByKey(publicKey)
		return known
	})
	d.onTeardown(func() {
		if err := d.registry.Flush(); err != nil {
			d.logger.Error("store what hosts last said", "err", err)
		}
	})
	return nil
}

// buildService builds what owns the state of jobs.
func (d *daemon) buildService(context.Context) (err error) {
	d.links = &links{agents: agentlink.New(d.broker.Agents(), d.broker.Signer())}
	kept, server := d.depotFor()
	d.caretaker = d.registry.Caretaker(server, d.depotAddress())
	d.dispatch, err = dispatch.New(dispatch.Options{
		Store: d.store, Link: d.links, Registry: d.registry, Presence: d.presence, Depot: kept, DepotAddress: d.depotAddress(),
		Feed: d.feed, LogDir: d.path(logsDir), Version: build.Version, Logger: d.logger,
		Attention: func() []fleet.Attention {
			return slices.Concat(d.disk.attention(), d.planAttention(), d.attention())
		},
		Now:  fault.Now,
		Full: d.disk.full,
		Limits: dispatch.Limits{
			Running: d.config.Limits.Running, PerHost: d.config.Limits.PerHost, PerStore: d.config.Limits.PerStore, Expire: time.Duration(d.config.Limits.Expire),
			Timeout: time.Duration(d.config.Limits.Timeout), Offline: time.Duration(d.config.Limits.Offline),
		},
		History: dispatch.History{Keep: time.Duration(d.config.History.Keep), Jobs: d.config.History.Jobs},
	})
	return err
}

// buildHosts builds what runs the jobs of hosts without an agent.
func (d *daemon) buildHosts(context.Context) error {
	ring, err := d.ring()
	if err != nil {
		return err
	}
	d.proxy = proxy.New(proxy.Options{
		Dir: d.path(hostsDir), Ring: ring, Sessions: d.dispatch, Ingest: d.dispatch, Logger: d.logger, Now: fault.Now,
	})
	d.links.proxies = d.proxy
	_, restored, err := d.store.Restored()
	if err != nil {
		return fmt.Errorf("look whether the store was restored: %w", err)
	}
	d.posts = &posts{
		registry: d.registry, proxy: d.proxy, feed: d.feed, logger: d.logger.Named("hosts"), dir: d.path(hostsDir), restored: restored,
		open: d.openPost, kept: map[string]*keptPost{}, taken: map[string]bool{},
	}
	d.links.lent = d.posts.lent
	return nil
}

// attention is what needs a person and is nobody else's business.
func (d *daemon) attention() []fleet.Attention {
	restored, expires := d.restoredAttention(), d.authority.Expires()
	if time.Until(expires) > expiryNotice {
		return restored
	}
	return append(restored, fleet.Attention{
		Kind: "certificate", Since: expires.Add(-expiryNotice), Message: "the coordinator's certificate ends on " + expires.Format(time.DateOnly),
		Hint: "it was not renewed in time: see the log, or give another one (tls.certificate_file in coordinator.yaml)",
	})
}

// buildAccess builds who is who, and who may do what; and ends what a crash
// left undone.
func (d *daemon) buildAccess(ctx context.Context) (err error) {
	d.access, err = access.New(access.Options{Store: d.store, Bus: d.broker, LocalTokenFile: d.path(LocalTokenFile), Logger: d.logger})
	if err != nil {
		return err
	}
	d.onTeardown(d.access.Flush)
	if err := errors.Join(d.registry.FinishRevocations(), d.access.FinishRevocations()); err != nil {
		d.logger.Error("end identities that were removed; it is tried again at the next start", "err", err)
	}
	if err := d.registry.FinishAdoptions(ctx); err != nil {
		d.logger.Error("settle repositories that calls had adopted; it is tried again at the next start", "err", err)
	}
	signer, err := d.broker.Signer().PublicKey()
	if err != nil {
		return fmt.Errorf("public key of the signer: %w", err)
	}
	d.enrol, err = enrol.New(enrol.Options{
		Store: d.store, Registry: d.registry, Minter: d.broker, Vault: d.vault, Agents: d.broker.Agents(), Signer: signer,
		URLs: d.config.AgentURLs(d.broker.URL()), CA: d.busCA, Fingerprint: d.busFingerprint(), Logger: d.logger,
	})
	d.gate = gate.New(d.access)
	d.convert = convert.New(convert.Options{Hosts: d.registry, Tokens: d.enrol, Jobs: d.dispatch, Take: d.takeHost, Logger: d.logger})
	return err
}

// buildArchives builds what reads archives while a host streams them.
func (d *daemon) buildArchives(context.Context) (err error) {
	d.catalog, err = catalog.New(catalog.Options{
		Dir: d.path(listingsDir), Feed: d.feed, Jobs: d.dispatch, Archives: d.dispatch, Repositories: d.registry, Source: d.links, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.transfer, err = transfer.New(transfer.Options{
		Jobs: d.gate.Jobs(d.dispatch), Feed: d.feed, Source: d.links, Archives: d.dispatch, Catalog: d.catalog, Hosts: d.registry, Logger: d.logger,
		InDepot: d.dispatch.InDepot,
	})
	return err
}

// announce says where the coordinator listens: in its log, and in files for
// the command line and other clients on this machine.
func (d *daemon) announce(ctx context.Context) error {
	endpoints := Endpoints{HTTP: d.localURL(), Bus: d.config.AgentURLs(d.broker.URL())[0]}
	if d.depot != nil {
		endpoints.Depot = d.depot.Addr().String()
	}
	if ca := d.authority.CA(); ca != nil {
		endpoints.CAFile = d.path(caFile)
		if err := renameio.WriteFile(endpoints.CAFile, ca, 0o644); err != nil { // not secret: clients need it
			return fmt.Errorf("write %s: %w", endpoints.CAFile, err)
		}
	}
	path := d.path(EndpointsFile)
	if err := endpoints.write(path); err != nil {
		return err
	}
	d.onTeardown(func() { _ = os.Remove(path) }) // a stale one only misleads
	d.logger.Info("borgfleet runs", "version", build.Version, "page", d.pageURL(), "bus", d.config.AgentURLs(d.broker.URL()), "data", d.config.Data)
	if url := d.broker.WebsocketURL(); url != "" {
		d.logger.Info("the bus takes websockets too", "url", url)
	}
	if d.authority.CA() != nil {
		d.logger.Info("certificates are from an authority of this coordinator", "ca_file", endpoints.CAFile, "ca_fingerprint", fmt.Sprintf("%x", d.authority.Fingerprint()))
	}
	return d.printSetupLink(ctx)
}

// printSetupLink prints where the first administrator signs up, while there is
// none. It is no matter for the log: the link is a secret until it is used.
func (d *daemon) printSetupLink(ctx context.Context) error {
	token, needed, err := d.access.SetupLink(ctx)
	if err != nil || !needed {
		return err
	}
	_, err = fmt.Fprintf(d.out, "The first administrator chooses a name and a password here, once, within a day:\n  %s/setup/%s\n", d.pageURL(), token.Reveal())
	return err
}
