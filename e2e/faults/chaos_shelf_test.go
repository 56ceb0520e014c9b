package faults_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// drawReader makes of a wish one of a job that reads what is on the shelf, or
// removes archives.
func (r *riot) drawReader(dice *rand.Rand, w *wish) {
	first := w.repo
	w.repo = 0
	switch dice.IntN(6) {
	case 0:
		w.kind, w.spec = job.List, job.ListSpec{Archive: book}
	case 1, 2:
		w.kind = job.Download
	case 3:
		point := filepath.Join(r.hosts[w.host].restore, w.key)
		w.kind, w.spec = job.Mount, job.MountSpec{Archive: book, MountPoint: point, Idle: 2}
	case 4:
		w.kind, w.spec = job.Delete, job.DeleteSpec{Archives: []string{fmt.Sprintf(pamphlet, 1+dice.IntN(pamphlets))}}
	case 5:
		w.kind, w.repo, w.spec = job.Prune, first, job.PruneSpec{KeepLast: 1 + dice.IntN(3), MaxPercent: 80}
	}
}

// fetch downloads the large file, and goes on where it breaks off.
func (r *riot) fetch(h *host) {
	s := &scene{world: r.world, host: h, repo: r.repos[0], url: r.url}
	var got []byte
	var err error
	for deadline := time.Now().Add(harness.Patience); time.Now().Before(deadline) && len(got) < largeSize; pass(100 * time.Millisecond) {
		var d *download
		if d, err = s.tryOpen(len(got)); err != nil {
			continue
		}
		err = s.readOn(d)
		got = append(got, d.got...)
	}
	if !bytes.Equal(got, r.shelf.content) {
		r.t.Errorf("the %d bytes that were downloaded are not the file's %d (%v)", len(got), largeSize, err)
	}
}

// excused reports whether a job may have failed for what others did: a mount
// whose borg was killed, an archive that another job has deleted, too many at once.
func excused(j job.Job) bool {
	switch j.Kind {
	case job.Mount:
		return true
	case job.Delete:
		return j.Failure.Code == job.ArchiveMissing
	case job.Prune:
		return j.Failure.Code == job.NeedsConfirmation
	default:
		return false
	}
}
