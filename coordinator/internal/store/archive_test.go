package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"
)

// archive returns an archive that began the given number of seconds after start.
func archive(name string, second int) fleet.Archive {
	at := start.Add(time.Duration(second) * time.Second)
	return fleet.Archive{Archive: job.Archive{Name: name, ID: "id-" + name, Start: at}, SeenAt: at.Add(time.Minute)}
}

func withRepositories(t testing.TB, names ...string) *store.Store {
	t.Helper()
	s := open(t)
	for _, name := range names {
		apply(t, s, store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: name}}))
	}
	t.Cleanup(func() {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// names returns the names of a page's archives.
func names(t testing.TB, s *store.Store, f fleet.ArchiveFilter) []string {
	t.Helper()
	page, err := s.Archives(f)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, a := range page.Archives {
		got = append(got, a.Name)
	}
	return got
}

func wantNames(t testing.TB, s *store.Store, f fleet.ArchiveFilter, want ...string) {
	t.Helper()
	if got := names(t, s, f); !slices.Equal(got, want) {
		t.Errorf("archives of %+v: %q, want %q", f, got, want)
	}
}

func TestArchivesAreFiltered(t *testing.T) {
	s := withRepositories(t, "main", "mai")
	one, two := archive("web1-a", 10), archive("web1-b", 30)
	one.Host, two.Host = "web1", "web"
	apply(t, s, store.PutArchives("main", one, archive("db-a", 20), two), store.PutArchives("mai", archive("web1-a", 5)))
	for name, test := range map[string]struct {
		filter fleet.ArchiveFilter
		want   []string
	}{
		"all, newest first": {fleet.ArchiveFilter{}, []string{"web1-b", "db-a", "web1-a"}},
		"of a host":         {fleet.ArchiveFilter{Host: "web"}, []string{"web1-b"}},
		"by prefix":         {fleet.ArchiveFilter{Prefix: "web1"}, []string{"web1-b", "web1-a"}},
		"by glob":           {fleet.ArchiveFilter{Glob: "*-a"}, []string{"db-a", "web1-a"}},
		"from a moment on":  {fleet.ArchiveFilter{After: start.Add(20 * time.Second)}, []string{"web1-b", "db-a"}},
		"before a moment":   {fleet.ArchiveFilter{Before: start.Add(20 * time.Second)}, []string{"web1-a"}},
		"none":              {fleet.ArchiveFilter{Glob: "x*"}, []string{}},
	} {
		test.filter.Repository = "main"
		t.Run(name, func(t *testing.T) { wantNames(t, s, test.filter, test.want...) })
	}
	wantNames(t, s, fleet.ArchiveFilter{Repository: "mai"}, "web1-a")
	apply(t, s, store.DeleteRepository("main"))
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"})
	wantNames(t, s, fleet.ArchiveFilter{Repository: "mai"}, "web1-a")
}

func TestArchiveFiltersAtFault(t *testing.T) {
	s := withRepositories(t, "main")
	for name, f := range map[string]fleet.ArchiveFilter{
		"limit": {Limit: job.MaxPage + 1}, "glob": {Glob: "["}, "cursor": {Cursor: "abc"}, "cursor ": {Cursor: "?"},
	} {
		f.Repository = "main"
		_, err := s.Archives(f)
		failure, ok := errors.AsType[*job.Failure](err)
		if !ok || failure.Code != job.InvalidRequest || !strings.Contains(failure.Message, strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatIsKnownOfAnArchive notes archives again and again.
func TestWhatIsKnownOfAnArchive(t *testing.T) {
	s := withRepositories(t, "main")
	made := archive("a", 10)
	made.Host, made.Job, made.OriginalSize, made.NFiles, made.DeduplicatedSize = "web1", newJob(0).ID, 100, 3, 7
	seen := archive("a", 11) // the list knows better when it began
	seen.Hostname, seen.SeenAt = "web1.example.net", start.Add(time.Hour)
	apply(t, s, store.PutArchives("main", made))
	apply(t, s, store.PutArchives("main", seen))
	want := made
	want.Repository, want.Start, want.Hostname, want.SeenAt = "main", seen.Start, seen.Hostname, seen.SeenAt
	got, found, err := s.Archive("main", "a")
	if err != nil || !found {
		t.Fatal(found, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	makers, err := s.ArchiveMakers("main")
	if diff := cmp.Diff([]store.ArchiveMaker{{Name: "a", Host: "web1", Hostname: "web1.example.net"}}, makers); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	again := archive("a", 50)
	again.ID = "another" // deleted, and made anew by somebody else
	apply(t, s, store.PutArchives("main", again))
	if got, _, _ := s.Archive("main", "a"); got.Host != "" || got.OriginalSize != 0 {
		t.Errorf("another archive of the name is %+v", got)
	}
	apply(t, s, store.PutArchives("nowhere", made), store.PutArchives("main", archive("", 1), archive("x\x00y", 1), archive(strings.Repeat("x", 40_000), 1)))
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"}, "a")
}

func TestAListDropsWhatIsGone(t *testing.T) {
	s := withRepositories(t, "main")
	later := archive("later", 40)
	later.SeenAt = start.Add(2 * time.Hour)
	apply(t, s, store.PutArchives("main", archive("old", 1), archive("gone", 20), archive("here", 30), later))
	apply(t, s, store.SetArchives("main", []fleet.Archive{archive("here", 30), archive("first", 10)}, start.Add(10*time.Second), start.Add(time.Hour)))
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"}, "later", "here", "first", "old")
	apply(t, s, store.SetArchives("main", []fleet.Archive{archive("here", 30)}, time.Time{}, start.Add(3*time.Hour)))
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"}, "here")
	apply(t, s, store.DeleteArchives("main", "here", "never"))
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"})
}

// TestPagesOfArchives walks 10,000 archives, which must be quick.
func TestPagesOfArchives(t *testing.T) {
	s := withRepositories(t, "main")
	archives := make([]fleet.Archive, 10_000)
	for i, n := range rand.New(rand.NewPCG(1, 2)).Perm(len(archives)) {
		archives[i] = archive(fmt.Sprintf("web1-%05d", n), n/3) // some began at once
	}
	apply(t, s, store.SetArchives("main", archives, time.Time{}, start))
	var got []string
	f := fleet.ArchiveFilter{Repository: "main", Limit: job.MaxPage}
	begun := time.Now()
	for pages := 1; ; pages++ {
		page, err := s.Archives(f)
		if err != nil || page.Total != len(archives) {
			t.Fatalf("page %d of %d, %v", pages, page.Total, err)
		}
		for _, a := range page.Archives {
			got = append(got, a.Name)
		}
		if f.Cursor = page.Cursor; f.Cursor == "" {
			t.Logf("%d pages in %s", pages, time.Since(begun))
			break
		}
	}
	if len(got) != len(archives) || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("%d archives, from %s to %s", len(got), got[0], got[len(got)-1])
	}
}

func TestWhatIsKeptBesideAJob(t *testing.T) {
	s := open(t)
	j := newJob(0)
	aside := store.Aside{Passphrase: &fleet.SealedPassphrase{Sealed: secret.Sealed{Sender: "X"}, SealKey: "Y"}, Given: true, Preview: newJob(1).ID}
	apply(t, s, store.CreateJob(j), store.PutAside(j.ID, aside))
	if got, err := s.Aside(j.ID); err != nil || !cmp.Equal(aside, got) {
		t.Errorf("%+v, %v", got, err)
	}
	apply(t, s, store.PutJob(finished(j, job.Cancelled, start)))
	aside.Passphrase = nil
	if got, err := s.Aside(j.ID); err != nil || !cmp.Equal(aside, got) {
		t.Errorf("after the end: %+v, %v", got, err)
	}
	apply(t, s, store.DeleteJob(j.ID))
	if got, err := s.Aside(j.ID); err != nil || got != (store.Aside{}) {
		t.Errorf("after it was dropped: %+v, %v", got, err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// TestMigrationBringsArchives opens a database as version 2 left it.
func TestMigrationBringsArchives(t *testing.T) {
	file := path(t)
	s, err := store.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: "main"}}), store.CreateJob(newJob(0)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tamper(t, file, func(tx *bbolt.Tx) error {
		for _, bucket := range store.BucketsAfter(2) {
			if err := tx.DeleteBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("schema"), auditKey(2))
	})
	s = openAt(t, file)
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"})
	apply(t, s, store.PutArchives("main", archive("a", 1)), store.PutJob(finished(newJob(0), job.Cancelled, start)))
	wantNames(t, s, fleet.ArchiveFilter{Repository: "main"}, "a")
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}
