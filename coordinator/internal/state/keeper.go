package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Store is the open database. Safe for concurrent use.
type Store interface {
	Apply(changes ...store.Change) (uint64, error)
	// Snapshot writes a consistent copy, which is itself a database file.
	Snapshot(to io.Writer) (written int64, err error)
}

// Options is what a [Keeper] needs.
type Options struct {
	Dir          string // the data directory
	Store        Store
	KeyElsewhere bool             // the secrets' key is not the file in Dir
	Outside      []string         // what lies elsewhere, and is needed to set the coordinator up again
	Now          func() time.Time // nil: time.Now
	Logger       hclog.Logger
}

// Keeper makes copies of a running coordinator's state. It is safe for
// concurrent use, and makes one copy at a time.
type Keeper struct {
	options Options
	busy    sync.Mutex
}

// New returns a keeper.
func New(options Options) *Keeper {
	if options.Now == nil {
		options.Now = time.Now
	}
	options.Logger = options.Logger.Named("state")
	return &Keeper{options: options}
}

// CheckRecipient refuses what is no recipient of age, as a *job.Failure. It
// never repeats an identity.
func CheckRecipient(recipient string) error {
	return job.KeyExportSpec{Recipient: recipient}.Validate() // the same rule, in the same words
}

// BackupState takes a snapshot of the state, which is then written out by the
// copy. Without a recipient it is for the owner of the data directory only, who
// could read it all anyway. It is in the audit before anything is told, and so
// in the copy. Refusals are *job.Failure.
func (k *Keeper) BackupState(_ context.Context, by fleet.Actor, asked fleet.StateBackup) (*fleet.StateCopy, error) {
	var recipient age.Recipient
	switch {
	case asked.Recipient != "":
		if err := CheckRecipient(asked.Recipient); err != nil {
			return nil, err
		}
		recipient, _ = age.ParseX25519Recipient(asked.Recipient) // CheckRecipient has
	case by.Name != fleet.Local:
		return nil, job.Invalid("recipient", "is missing: a copy of the state holds every key, and leaves this machine encrypted only").
			WithHint("make an identity with age-keygen, keep it safe, and give the recipient that it shows, age1…")
	}
	if !k.busy.TryLock() {
		return nil, job.Fail(job.Conflict, "another copy of the state is being made").WithHint("wait until it is written")
	}
	made, err := k.snapshot(by, asked, recipient)
	if err != nil {
		k.busy.Unlock()
		return nil, err
	}
	return &fleet.StateCopy{SnapshotAt: made.manifest.SnapshotAt, Outside: slices.Clone(made.manifest.Outside), Content: made}, nil
}

// snapshot makes a copy that is ready to be written. It unlocks the keeper when
// it is closed.
func (k *Keeper) snapshot(by fleet.Actor, asked fleet.StateBackup, recipient age.Recipient) (*content, error) {
	at := k.options.Now().UTC()
	if err := k.audit(by, at, "done", describe(asked)); err != nil {
		return nil, err
	}
	database, err := k.copyDatabase()
	if err != nil {
		err = errors.Join(err, k.audit(by, k.options.Now().UTC(), "failed", "")) // it was not told yet
		return nil, err
	}
	k.options.Logger.Info("copying the state", "by", by.Name, "from", by.From, "encrypted", recipient != nil)
	return &content{
		dir: k.options.Dir, database: database, recipient: recipient, unlock: k.busy.Unlock,
		skipKey: k.options.KeyElsewhere, logs: asked.Logs,
		manifest: Manifest{
			Format: format, Version: build.Version, Schema: store.SchemaVersion(), SnapshotAt: at,
			Outside: append([]string{}, k.options.Outside...), Files: []File{},
		},
	}, nil
}

func describe(asked fleet.StateBackup) string {
	text := "not encrypted"
	if asked.Recipient != "" {
		text = "for " + asked.Recipient
	}
	if asked.Logs {
		text += ", with logs"
	}
	return text
}

func (k *Keeper) audit(by fleet.Actor, at time.Time, outcome, detail string) error {
	_, err := k.options.Store.Apply(store.AppendAudit(fleet.AuditEntry{
		At: at, By: by.Name, From: by.From, Action: "state.backup", Object: "state", Outcome: outcome, Detail: detail,
	}))
	if err != nil {
		return fmt.Errorf("note the backup of the state: %w", err)
	}
	return nil
}

// copyDatabase writes the snapshot to a file without a name: whoever is slow to
// take the copy must not hold a transaction open, which lets the database grow.
func (k *Keeper) copyDatabase() (_ *os.File, err error) {
	file, err := os.CreateTemp(k.options.Dir, ".snapshot-*.db")
	if err != nil {
		return nil, fmt.Errorf("make room for a snapshot: %w", err)
	}
	err = os.Remove(file.Name())
	if err == nil {
		_, err = k.options.Store.Snapshot(file)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		return file, nil
	}
	_ = file.Close() // it is lost anyway
	if errors.Is(err, syscall.ENOSPC) {
		return nil, job.Fail(job.Unavailable, "there is no room for a snapshot of the database in %s", k.options.Dir).
			WithHint("make room for another file of the size of %s", DatabaseFile)
	}
	return nil, fmt.Errorf("take a snapshot: %w", err)
}
