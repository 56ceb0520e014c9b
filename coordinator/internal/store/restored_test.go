package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
)

func TestRestored(t *testing.T) {
	s := open(t)
	if marker, found, err := s.Restored(); found || err != nil {
		t.Errorf("a new store says it was restored: %+v, %v", marker, err)
	}
	first := store.Restored{SnapshotAt: time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC), RestoredAt: time.Date(2026, 1, 3, 4, 0, 0, 0, time.UTC)}
	second := store.Restored{SnapshotAt: first.SnapshotAt, RestoredAt: first.RestoredAt.Add(time.Hour)}
	for _, want := range []store.Restored{first, second} {
		apply(t, s, store.MarkRestored(want))
		marker, found, err := s.Restored()
		if diff := cmp.Diff(want, marker); !found || err != nil || diff != "" {
			t.Errorf("found %v, %v\n%s", found, err, diff)
		}
	}
}

// TestRestoredDropsWhatWorksOnce holds that what was used up or ended after the
// copy was taken does not work again.
func TestRestoredDropsWhatWorksOnce(t *testing.T) {
	s := open(t)
	at := time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC)
	spent := store.EnrolmentToken{EnrolmentToken: fleet.EnrolmentToken{ID: "b", Host: "web2", SpentAt: &at}, Hash: "hash-b", SpentBy: "U…"}
	apply(t, s,
		store.PutSession(store.Session{Hash: "s", User: "alice"}),
		store.PutLink(store.Link{Hash: "l", User: "alice"}),
		store.CreateEnrolmentToken(store.EnrolmentToken{EnrolmentToken: fleet.EnrolmentToken{ID: "a", Host: "web1"}, Hash: "hash-a"}),
		store.CreateEnrolmentToken(spent),
		store.CreateUser(store.User{User: fleet.User{Name: "alice"}}),
	)
	apply(t, s, store.MarkRestored(store.Restored{SnapshotAt: at, RestoredAt: at}))
	sessions, err := s.Sessions()
	links, err2 := s.Links()
	tokens, err3 := s.EnrolmentTokens()
	users, err4 := s.Users()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if len(sessions) != 0 || len(links) != 0 || len(users) != 1 {
		t.Errorf("left: sessions %v, links %v, users %v", sessions, links, users)
	}
	if diff := cmp.Diff([]store.EnrolmentToken{spent}, tokens); diff != "" {
		t.Errorf("enrolment tokens\n%s", diff)
	}
}

func TestLockKeepsCoordinatorsOut(t *testing.T) {
	file := path(t)
	lock, err := store.Lock(file)
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, openError(t, file), job.Conflict, "in use by another coordinator")
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	apply(t, openAt(t, file), store.CreateJob(newJob(0))) // what the lock made is taken for no database
	if _, err := store.Lock(file); err == nil {
		t.Fatal("locked beside an open store")
	} else {
		wantFailure(t, err, job.Conflict, "in use by another coordinator")
	}
}
