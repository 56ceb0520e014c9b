package daemon

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Space on the disk with the data directory, in bytes.
const (
	fullBelow    = 4 << 20 // nothing works reliably any more
	lowBelow     = 200 << 20
	lowShare     = 20      // low is also below 1/20 of the disk …
	lowAtMost    = 4 << 30 // … but no disk is low with more than this
	diskInterval = time.Second
)

// disk watches the space for the data directory.
type disk struct {
	dir    string
	store  *store.Store
	logger hclog.Logger

	mu    sync.Mutex
	since time.Time // it is low; zero: it is not
}

// space returns what is left and what there is.
func (d *disk) space() (free, total uint64, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(d.dir, &stat); err != nil {
		return 0, 0, fmt.Errorf("space in %s: %w", d.dir, err)
	}
	size := uint64(stat.Bsize)
	return stat.Bavail * size, stat.Blocks * size, nil
}

// Healthy returns that the disk is full, or nil.
func (d *disk) Healthy() error {
	free, _, err := d.space()
	if err != nil {
		return err
	}
	if free < fullBelow {
		return job.Fail(job.DiskFull, "the disk with the coordinator's data is full")
	}
	return nil
}

// full is the failure of what would need room on a full disk, or nil: also where
// the space is not known, as then the database's own word is the best there is.
func (d *disk) full() error {
	if f := job.AsFailure(d.Healthy()); f != nil && f.Code == job.DiskFull {
		return f.WithHint("make space there; running jobs go on, and it works again by itself")
	}
	return nil
}

// Run looks at the disk until ctx ends. After a commit that failed it tries
// again by itself: on an idle coordinator nobody else would, and it would go on
// to say that it is not well.
func (d *disk) Run(ctx context.Context) error {
	ticker := time.NewTicker(diskInterval)
	defer ticker.Stop()
	for {
		d.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if d.store.Healthy() == nil || d.Healthy() != nil {
			continue
		}
		if _, err := d.store.Apply(); err == nil {
			d.logger.Info("the database takes changes again")
		}
	}
}

// look notes since when the disk is low, and logs when that changes.
func (d *disk) look(now time.Time) {
	free, total, err := d.space()
	if err != nil {
		return // Healthy says so
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch low := free < lowLimit(total); {
	case low && d.since.IsZero():
		d.since = now.UTC()
		d.logger.Warn("the disk with the coordinator's data is nearly full", "path", d.dir, "free", human.Bytes(int64(free)))
	case !low && !d.since.IsZero():
		d.since = time.Time{}
		d.logger.Info("the disk with the coordinator's data has space again", "path", d.dir, "free", human.Bytes(int64(free)))
	}
}

// lowLimit is below how much free space a disk of a size needs attention.
func lowLimit(total uint64) uint64 { return min(max(lowBelow, total/lowShare), lowAtMost) }

// attention is what the status says of the disk.
func (d *disk) attention() []fleet.Attention {
	d.mu.Lock()
	since := d.since
	d.mu.Unlock()
	free, _, err := d.space()
	if err != nil || since.IsZero() {
		return nil
	}
	return []fleet.Attention{{
		Kind: "disk_low", Since: since, Message: "the disk with the coordinator's data has " + human.Bytes(int64(free)) + " left",
		Hint: "make space: when it is full no job can be asked for that frees none, and hosts keep their results to themselves until there is space again",
	}}
}
