package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// discover adds the jobs that nobody of us has asked for by themselves: the dry
// run before a prune, the list after one that could not say what it did, and what
// downloads are.
func (w *world) discover() {
	w.t.Helper()
	w.discoverPlanned()
	for _, kind := range []job.Kind{job.Prune, job.List, job.Download} {
		var page job.Page
		if err := w.c.Get(fmt.Sprintf("/api/v1/jobs?kind=%s&limit=%d", kind, job.MaxPage), &page); err != nil {
			w.t.Fatal(err)
		}
		for _, j := range page.Jobs {
			if !slices.Contains(w.asked, j.ID) {
				w.asked = append(w.asked, j.ID)
			}
		}
	}
}

// checkArchives compares what each repository holds with what results name.
func (w *world) checkArchives(f *finding) {
	for _, r := range w.repos {
		asked, known := len(w.asked), w.known(r)
		list := w.c.Await(w.askOf(w.hosts[0], r, job.List, job.ListSpec{}), job.Succeeded)
		w.asked = w.asked[:asked]
		named := slices.Clone(r.shelved)
		var there []string
		for _, a := range list.Result.Archives {
			there = append(there, a.Name)
		}
		for _, j := range f.jobs {
			if j.Kind == job.Backup && j.Repository == r.name && j.Result != nil && (j.State == job.Succeeded || j.State == job.Warning) {
				named = append(named, j.Result.Archive)
			}
		}
		removed, maybe := gone(r, f.jobs)
		for _, name := range there {
			if slices.Contains(removed, name) {
				f.breach(lost, "a result says that archive %s was removed, which is in repository %s", name, r.name)
			}
			if !slices.Contains(named, name) {
				f.breach(twice, "archive %s is in repository %s, and no result names it", name, r.name)
			}
		}
		for _, name := range named {
			if !slices.Contains(there, name) && !slices.Contains(removed, name) && !slices.Contains(maybe, name) {
				f.breach(lost, "a result names archive %s, which is not in repository %s, and none says that it was removed", name, r.name)
			}
		}
		w.checkKnown(f, r, known, there)
		w.checkListings(f, r, there)
	}
}

// gone returns the archives that results say were removed, and those that a job
// may have removed that could not say so any more.
func gone(r *repository, jobs []job.Job) (named, maybe []string) {
	for _, j := range jobs {
		if j.Repository != r.name || (j.Kind != job.Delete && j.Kind != job.Prune) {
			continue
		}
		if prune, ok := j.Spec.(job.PruneSpec); ok && prune.DryRun {
			if j.Result != nil && anotherAttempt(jobs) {
				maybe = append(maybe, j.Result.Pruned...)
			}
			continue
		}
		if j.Result != nil && (j.State == job.Succeeded || j.State == job.Warning) {
			named = append(append(named, j.Result.Pruned...), j.Result.Deleted...)
		}
		if spec, ok := j.Spec.(job.DeleteSpec); ok && (j.State == job.Failed || j.Attempt > 1) {
			maybe = append(maybe, spec.Archives...)
		}
	}
	return named, maybe
}

// anotherAttempt reports whether a prune has needed more than one attempt. What
// the first one did and could not say, the last one does not find.
func anotherAttempt(jobs []job.Job) bool {
	return slices.ContainsFunc(jobs, func(j job.Job) bool { return j.Kind == job.Prune && j.Attempt > 1 })
}

// known returns the archives of a repository that the coordinator knows.
func (w *world) known(r *repository) []string {
	w.t.Helper()
	var names []string
	for cursor := ""; ; {
		var page struct {
			Archives []struct{ Name string }
			Cursor   string
		}
		path := fmt.Sprintf("/api/v1/repositories/%s/archives?limit=200&cursor=%s", r.name, url.QueryEscape(cursor))
		if err := w.c.Get(path, &page); err != nil {
			w.t.Fatal(err)
		}
		for _, a := range page.Archives {
			names = append(names, a.Name)
		}
		if cursor = page.Cursor; cursor == "" {
			return names
		}
	}
}

// checkKnown compares the archives that the coordinator knew, before it was told,
// with those that are there.
func (w *world) checkKnown(f *finding, r *repository, known, there []string) {
	for _, name := range known {
		if !slices.Contains(there, name) {
			f.breach(lost, "archive %s is known, and is not in repository %s", name, r.name)
		}
	}
	for _, name := range there {
		if !slices.Contains(known, name) {
			f.breach(lost, "archive %s is in repository %s, and is not known", name, r.name)
		}
	}
}

// checkListings looks whether each listing is of an archive that is there, and is
// whole, and whether each that a job has made is there.
func (w *world) checkListings(f *finding, r *repository, there []string) {
	var made []string
	for _, j := range f.jobs {
		if spec, ok := j.Spec.(job.ListSpec); ok && spec.Archive != "" && j.Repository == r.name && (j.State == job.Succeeded || j.State == job.Warning) {
			made = append(made, spec.Archive)
		}
	}
	var listed []string
	var last error
	if !within(func() error {
		listed, last = w.listed(r)
		return errors.Join(last, lacks(listed, made, there))
	}) {
		f.breach(lost, "listings of repository %s: %v are there, %v were made, %v (%v)", r.name, listed, made, lacks(listed, made, there), last)
	}
	if !slices.Contains(listed, book) {
		return
	}
	paths, err := w.walk(r, book, "")
	slices.Sort(paths)
	// The listing has the directories above, too, which borg does not list.
	paths = slices.DeleteFunc(paths, func(p string) bool {
		_, shown := slices.BinarySearch(w.shelf.paths, p)
		return !shown && strings.HasPrefix(w.shelf.paths[0], p+"/")
	})
	if err != nil || !slices.Equal(paths, w.shelf.paths) {
		f.breach(lost, "the listing of %s has %d paths, not the %d that borg lists (%v)", book, len(paths), len(w.shelf.paths), err)
	}
}

// lacks says which listings should be there, or should not.
func lacks(listed, made, there []string) error {
	for _, name := range listed {
		if !slices.Contains(there, name) {
			return fmt.Errorf("archive %s is gone, and its listing is not", name)
		}
	}
	for _, name := range made {
		if slices.Contains(there, name) && !slices.Contains(listed, name) {
			return fmt.Errorf("archive %s was listed, and its listing is not there", name)
		}
	}
	return nil
}

// listed returns the archives of a repository whose listings can be read. The
// files on the disk must be as many.
func (w *world) listed(r *repository) ([]string, error) {
	var listed []string
	for _, name := range append(w.known(r), r.shelved...) {
		var page struct{ Files []any }
		if !slices.Contains(listed, name) && w.c.Get(fmt.Sprintf("/api/v1/repositories/%s/archives/%s/files", r.name, name), &page) == nil {
			listed = append(listed, name)
		}
	}
	files, err := filepath.Glob(filepath.Join(w.c.Data, "listings", r.name, "*"))
	if err == nil && len(files) != len(listed) {
		err = fmt.Errorf("%d files hold the listings of %d archives", len(files), len(listed))
	}
	return listed, err
}

// walk returns all paths of a listing below a directory.
func (w *world) walk(r *repository, archive, dir string) (paths []string, err error) {
	for cursor := ""; ; {
		var page struct {
			Files  []struct{ Path, Type string }
			Cursor string
		}
		query := url.Values{"path": {dir}, "limit": {"1000"}, "cursor": {cursor}}
		if err := w.c.Get(fmt.Sprintf("/api/v1/repositories/%s/archives/%s/files?%s", r.name, archive, query.Encode()), &page); err != nil {
			return paths, err
		}
		for _, file := range page.Files {
			paths = append(paths, file.Path)
			if file.Type == "d" {
				below, err := w.walk(r, archive, file.Path)
				if paths = append(paths, below...); err != nil {
					return paths, err
				}
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return paths, nil
		}
	}
}

// checkLeft looks whether anything is still mounted, or still reads what borg
// printed.
func (w *world) checkLeft(f *finding) {
	for _, h := range w.hosts {
		var mounts, pipes []string
		if !within(func() error {
			if mounts, pipes = h.mounts(), h.pipes(); len(mounts)+len(pipes) > 0 {
				return errors.New("something is left")
			}
			return nil
		}) {
			f.breach(rests, "host %s: mounted are %v, pipes %v are open", h.Host, mounts, pipes)
		}
	}
}

// mounts returns what is mounted below the host's directory for that.
func (h *host) mounts() (points []string) {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		h.t.Error(err)
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], h.restore+"/") {
			points = append(points, fields[1])
		}
	}
	return points
}

// pipes returns the pipes from borg to the agent that somebody has open.
func (h *host) pipes() (open []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is right
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target, filepath.Join(h.Data, "jobs")+"/") && strings.Contains(target, "/output") {
			open = append(open, link)
		}
	}
	return open
}

// checkPassphrases looks in a copy of the coordinator's database for passphrases
// that jobs were given, and that are over.
func (w *world) checkPassphrases(f *finding) {
	var held []string
	var err error
	if !within(func() error {
		held, err = w.heldPassphrases()
		return err
	}) {
		w.t.Errorf("read the coordinator's database: %v", err)
	}
	if len(held) > 0 {
		f.breach(rests, "the passphrases of %v are kept", held)
	}
}

func (w *world) heldPassphrases() (held []string, err error) {
	path := filepath.Join(w.t.TempDir(), "copy.db")
	if r := harness.Run(w.t, nil, "cp", filepath.Join(w.c.Data, "borgfleet.db"), path); r.Code != 0 {
		return nil, errors.New(r.Stderr)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return held, db.View(func(tx *bbolt.Tx) error {
		asides := tx.Bucket([]byte("asides"))
		if asides == nil {
			return errors.New("it has no bucket for what is kept beside jobs")
		}
		return asides.ForEach(func(id, value []byte) error {
			var aside struct{ Passphrase json.RawMessage }
			if err := json.Unmarshal(value, &aside); err != nil {
				return err
			}
			if len(aside.Passphrase) > 0 && string(aside.Passphrase) != "null" {
				held = append(held, string(id))
			}
			return nil
		})
	})
}
