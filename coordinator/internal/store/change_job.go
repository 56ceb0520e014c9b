package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// facets are the fields of a job that indexes are made of.
type facets struct {
	ID         job.ID     `json:"id"`
	Kind       job.Kind   `json:"kind"`
	Host       string     `json:"host"`
	For        string     `json:"for"`
	Repository string     `json:"repository"`
	Plan       string     `json:"plan"`
	State      job.State  `json:"state"`
	Attempt    int        `json:"attempt"`
	FinishedAt *time.Time `json:"finished_at"`
}

func facetsOf(j job.Job) facets {
	return facets{
		ID: j.ID, Kind: j.Kind, Host: j.Host, For: j.For, Repository: j.Repository, Plan: j.Plan,
		State: j.State, Attempt: j.Attempt, FinishedAt: j.FinishedAt,
	}
}

// Indexed fields.
const (
	fieldState      = "state"
	fieldHost       = "host"
	fieldFor        = "for"
	fieldRepository = "repository"
	fieldPlan       = "plan"
	fieldKind       = "kind"
)

// indexPrefix begins the keys of all jobs with one value in one field.
func indexPrefix(field, value string) []byte { return []byte(field + "\x00" + value + "\x00") }

// indexKeys returns the keys under which a job is found; empty values are not
// indexed.
func (f facets) indexKeys() []string {
	var keys []string
	for _, pair := range [][2]string{
		{fieldState, string(f.State)}, {fieldHost, f.Host}, {fieldFor, f.For}, {fieldRepository, f.Repository},
		{fieldPlan, f.Plan}, {fieldKind, string(f.Kind)},
	} {
		if pair[1] != "" {
			keys = append(keys, string(indexPrefix(pair[0], pair[1]))+string(f.ID))
		}
	}
	return keys
}

// finishedKey is the job's key in the index by time of finish; nil before.
func (f facets) finishedKey() []byte {
	if !f.State.Terminal() || f.FinishedAt == nil {
		return nil
	}
	return append(timeBytes(*f.FinishedAt), f.ID...)
}

// timeBytes encodes a moment so that its bytes sort as it does, for moments
// from 1970 to 2262; earlier ones are as 1970.
func timeBytes(at time.Time) []byte {
	return numberBytes(uint64(max(0, at.UnixNano())))
}

// check refuses what would break the indexes.
func (f facets) check() error {
	if _, err := job.ParseID(string(f.ID)); err != nil {
		return err
	}
	for _, text := range []string{f.Host, f.For, f.Repository, f.Plan, string(f.Kind)} {
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("job %s: %q contains a NUL byte", f.ID, text)
		}
	}
	switch {
	case !f.State.Known():
		return fmt.Errorf("job %s: %q is not a job state", f.ID, f.State)
	case f.State.Terminal() && f.FinishedAt == nil:
		return fmt.Errorf("job %s: it is %s and has no time of finish", f.ID, f.State)
	}
	return nil
}

type jobPut struct {
	job    job.Job
	create bool
}

func (c jobPut) apply(tx *transaction) error {
	c.job.Progress = nil
	now := facetsOf(c.job)
	if err := now.check(); err != nil {
		return fmt.Errorf("put job: %w", err)
	}
	before, exists, err := get[facets](tx.tx, bucketJobs, string(c.job.ID))
	switch {
	case err != nil:
		return err
	case exists && c.create:
		return fmt.Errorf("%s %w", object(bucketJobs, string(c.job.ID)), ErrExists)
	case exists && before.State.Terminal() && before.State != now.State:
		return fmt.Errorf("job %s, which has %s, %w", c.job.ID, before.State, ErrTerminal)
	case exists && before.State != now.State && !before.State.CanBecome(now.State):
		return fmt.Errorf("job %s from %s to %s: %w", c.job.ID, before.State, now.State, ErrIllegal)
	}
	data, err := json.Marshal(c.job)
	if err != nil {
		return fmt.Errorf("encode job %s: %w", c.job.ID, err)
	}
	if err := tx.putBytes(bucketJobs, []byte(c.job.ID), data); err != nil {
		return err
	}
	if now.State.Terminal() {
		if err := tx.forgetPassphrase(c.job.ID); err != nil {
			return err
		}
	}
	if !exists {
		return tx.reindex(nil, &now)
	}
	return tx.reindex(&before, &now)
}

// reindex brings the indexes from one version of a job to another; nil stands
// for no job.
func (t *transaction) reindex(before, now *facets) error {
	stale, fresh := map[string]bool{}, []string{}
	if before != nil {
		for _, key := range before.indexKeys() {
			stale[key] = true
		}
	}
	if now != nil {
		for _, key := range now.indexKeys() {
			if stale[key] {
				delete(stale, key)
				continue
			}
			fresh = append(fresh, key)
		}
	}
	for key := range stale {
		if err := t.delete(bucketJobIndex, []byte(key)); err != nil {
			return err
		}
	}
	for _, key := range fresh {
		if err := t.putBytes(bucketJobIndex, []byte(key), nil); err != nil {
			return err
		}
	}
	if err := t.refinish(before, now); err != nil {
		return err
	}
	return t.recount(before, now)
}

// refinish maintains the index by time of finish.
func (t *transaction) refinish(before, now *facets) error {
	if before != nil {
		if key := before.finishedKey(); key != nil {
			if err := t.delete(bucketJobsFinished, key); err != nil {
				return err
			}
		}
	}
	if now == nil || now.finishedKey() == nil {
		return nil
	}
	return t.putBytes(bucketJobsFinished, now.finishedKey(), []byte(now.State))
}

// recount maintains the number of jobs by state and kind.
func (t *transaction) recount(before, now *facets) error {
	if before != nil && now != nil && before.State == now.State && before.Kind == now.Kind {
		return nil
	}
	if before != nil {
		if err := t.count(before, -1); err != nil {
			return err
		}
	}
	if now != nil {
		return t.count(now, 1)
	}
	return nil
}

func (t *transaction) count(f *facets, step int) error {
	key := []byte(pairKey(string(f.State), string(f.Kind)))
	total := int(number(t.bucket(bucketJobCounts).Get(key))) + step
	if total <= 0 {
		return t.delete(bucketJobCounts, key)
	}
	return t.putBytes(bucketJobCounts, key, numberBytes(uint64(total)))
}

type jobDelete struct{ id job.ID }

func (c jobDelete) apply(tx *transaction) error {
	before, exists, err := get[facets](tx.tx, bucketJobs, string(c.id))
	if err != nil || !exists {
		return err
	}
	if err := errors.Join(tx.delete(bucketJobs, []byte(c.id)), tx.delete(bucketAsides, []byte(c.id))); err != nil {
		return err
	}
	byJob := []byte(pairKey(string(c.id), ""))
	for _, key := range keysWithPrefix(tx.bucket(bucketIdempotencyByJob), byJob) {
		if err := tx.delete(bucketIdempotency, key[len(byJob):]); err != nil {
			return err
		}
	}
	if err := tx.deletePrefix(bucketIdempotencyByJob, byJob); err != nil {
		return err
	}
	if err := tx.deletePrefix(bucketAttempts, []byte(c.id+".")); err != nil {
		return err
	}
	return tx.reindex(&before, nil)
}

type noOpenJobs struct{ host, repository string }

func (c noOpenJobs) apply(tx *transaction) error {
	for _, state := range openStates() {
		filter := job.Filter{State: state, Host: c.host, Repository: c.repository}
		for id := range matchingAt(tx.tx, filter) {
			return fmt.Errorf("job %s is %s: %w", id, state, ErrOpenJobs)
		}
	}
	return nil
}

// openStates returns the states that are not terminal.
func openStates() []job.State { return []job.State{job.Queued, job.Sent, job.Running} }
