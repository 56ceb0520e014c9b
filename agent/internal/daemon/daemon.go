// Package daemon builds the agent from its parts, runs it, and takes it down
// again. It is the one place where the order of both can be read:
//
//	data directory -> journal (its lock makes the agent the only one here)
//	  -> identity -> engine over job directories -> worker -> uplink
//	  -> control socket
//
// They run side by side until one fails or the context ends; the journal is
// closed last. Borg is nobody's child here and goes on.
package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/oklog/run"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/agent/internal/control"
	"github.com/borgfleet/borgfleet/agent/internal/depot"
	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/mount"
	"github.com/borgfleet/borgfleet/shared/policy"
	"github.com/borgfleet/borgfleet/shared/probe"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/worker"
)

// shutdownTime is how long the parts have to end before they are left behind.
const shutdownTime = 10 * time.Second

// Options are what a daemon needs.
type Options struct {
	Config     config.Config // complete
	Supervisor []string      // command that runs process.Supervise; the directory is appended
	Logger     hclog.Logger
}

// actor is one part that runs.
type actor struct {
	name string
	run  func(context.Context) error
}

// daemon holds the parts that status looks into.
type daemon struct {
	Options
	signer    string         // the coordinator's public signing key
	hostID    string         // BORG_HOST_ID
	seal      *identity.Ring // keys that secrets are sealed to
	startedAt time.Time
	instance  string // random, of this run
	borg      *probe.Borg
	journal   *journal.Journal
	runs      *process.Local
	worker    *worker.Worker
	uplink    *uplink.Uplink
}

// Run builds the agent and runs it until ctx ends (nil) or a part fails.
func Run(ctx context.Context, o Options) (err error) {
	if err := prepareData(o.Config.Data); err != nil {
		return err
	}
	store, err := journal.Open(journal.Options{Path: journalPath(o.Config.Data), Logger: o.Logger, Now: fault.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	d := &daemon{Options: o, startedAt: time.Now().UTC(), instance: rand.Text(), journal: store, borg: probe.NewBorg(o.Config.Borg.Binary)}
	if err := d.load(); err != nil {
		return err
	}
	if err := d.build(); err != nil {
		return err
	}
	defer d.runs.Close()
	socket, err := control.Listen(o.Config.Data, d.status, o.Logger)
	if err != nil {
		return err
	}
	o.Logger.Info("agent started", "host", o.Config.Host, "version", build.Current().Version,
		"data", o.Config.Data, "bus", o.Config.Bus.URLs)
	renewal := identity.Renewal{
		Host: o.Config.Host, Credentials: o.Config.Bus.CredentialsFile, Data: o.Config.Data, Bus: d.uplink, Logger: o.Logger}
	return runAll(ctx, o.Logger, []actor{
		{"worker", d.worker.Run}, {"uplink", d.uplink.Run}, {"renewal", renewal.Run}, {"control", socket.Run}})
}

// load reads who this host is.
func (d *daemon) load() (err error) {
	c := d.Config
	if err = identity.CheckCredentials(c.Bus.CredentialsFile, c.Host); err != nil {
		return err
	}
	if d.signer, err = identity.Signer(c.Bus.SignerFile, c.Host); err != nil {
		return err
	}
	if d.seal, err = identity.OpenRing(c.Data, d.Logger); err != nil {
		return err
	}
	d.hostID, err = identity.HostID(c.Data, c.Host)
	return err
}

// build makes worker and uplink.
func (d *daemon) build() error {
	c := d.Config
	upload, err := c.Borg.UploadKiB()
	if err != nil {
		return err
	}
	runs := process.NewLocal(process.Options{
		Root: filepath.Join(c.Data, "jobs"), Supervisor: d.Supervisor, Standby: true, Logger: d.Logger})
	d.runs = runs
	d.worker = worker.New(worker.Options{
		Host: c.Host, Instance: d.instance, Signer: d.signer, Secrets: d.seal, Slots: c.Slots,
		Journal: d.journal, Runs: runs, Policy: policy.Rules(c.Policy), Mounts: mount.Table{}, Borg: d.borg,
		RSH: depot.New(c.Data).RSH, Checks: d.verify, Logger: d.Logger, Now: fault.Now,
		Engine: engine.New(engine.Options{
			Environment: borg.Environment{
				Binary: c.Borg.Binary, BaseDir: baseDir(c.Data), HostID: d.hostID,
				RSH: c.Borg.RSH, LockWait: c.Borg.LockWait, UploadLimit: upload,
			},
			Nice: c.Borg.Nice, IOClass: c.Borg.IONice, Executor: runs, Logger: d.Logger,
		}),
	})
	tls, err := identity.Trust(c.Bus.CAFile)
	if err != nil {
		return err
	}
	d.uplink = uplink.New(uplink.Options{
		Host: c.Host, Instance: d.instance, URLs: c.Bus.URLs, Credentials: c.Bus.CredentialsFile, TLS: tls, Explain: identity.Explain,
		Journal: d.journal, Handler: d.worker, Identity: d.hello,
		Changes: d.worker.Changes(), Progress: d.worker.Progress(), Logger: d.Logger, Now: fault.Now,
	})
	return nil
}

// borgTime is how long a hello, or a status, waits for a borg that has not been
// asked for its version before; the next one has the answer.
const borgTime = 2 * time.Second

// hello is what the agent says of itself, apart from its attempts.
func (d *daemon) hello() bus.Hello {
	ctx, cancel := context.WithTimeout(context.Background(), borgTime)
	defer cancel()
	version, failure := d.borg.Version(ctx)
	return bus.Hello{
		AgentVersion: build.Current().Version, BorgVersion: version.Text, BorgFailure: failure,
		OS: probe.OS(), SealKey: d.seal.Public(), StartedAt: d.startedAt, Slots: d.Config.Slots,
		FreeBytes: probe.FreeBytes(baseDir(d.Config.Data)),
	}
}

// runAll runs the actors until one fails or ctx ends. Those that do not end in
// time are left behind, and named in the error.
func runAll(ctx context.Context, logger hclog.Logger, actors []actor) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group run.Group
	for _, a := range actors {
		group.Add(func() error {
			err := a.run(ctx)
			if err != nil {
				logger.Error("a part of the agent failed", "part", a.name, "err", err) // the group keeps only the first
			}
			return err
		}, func(error) { cancel() })
	}
	group.Add(func() error { <-ctx.Done(); return nil }, func(error) { cancel() })
	ended := make(chan error, 1)
	go func() { ended <- group.Run() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	logger.Info("agent stops; running jobs go on")
	select {
	case err := <-ended:
		return err
	case <-time.After(shutdownTime):
		return job.Fail(job.Internal, "the agent did not stop within %s", shutdownTime).
			WithHint("this is a fault of borgfleet; please report it with the log")
	}
}

// baseDir is where borg keeps its cache, keys and whatever else it remembers.
func baseDir(data string) string { return filepath.Join(data, "borg") }

func journalPath(data string) string { return filepath.Join(data, "journal.db") }

// DamagedJournals returns the files of journals that were found damaged and set
// aside, oldest first; they are for people to look at, and to remove.
func DamagedJournals(data string) []string { return journal.Damaged(journalPath(data)) }

// prepareData makes the data directory, open to the agent's user only.
func prepareData(dir string) error {
	for _, d := range []string{dir, baseDir(dir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			if errors.Is(err, os.ErrPermission) {
				return job.Fail(job.PermissionDenied, "make data directory: %s", err).
					WithHint("run the agent as root, or give it a --data directory that it may write")
			}
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	return nil
}
