package daemon

import (
	"context"
	"os"
	"time"

	"github.com/borgfleet/borgfleet/agent/internal/control"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/mount"
)

// Status is what a running agent says of itself.
type Status struct {
	Host         string        `json:"host"`
	Version      string        `json:"version"`
	PID          int           `json:"pid"`
	StartedAt    time.Time     `json:"started_at"`
	Data         string        `json:"data"`
	Slots        int           `json:"slots"`
	BorgVersion  string        `json:"borg_version"`
	BorgFailure  *job.Failure  `json:"borg_failure"` // null: borg can be used
	Bus          uplink.Status `json:"bus"`
	Stamp        bus.Stamp     `json:"stamp"`
	JournalDepth int           `json:"journal_depth"`    // events that the coordinator has not stored yet
	Damaged      []string      `json:"damaged_journals"` // files that were set aside, see DamagedJournals
	Orphans      []string      `json:"orphans"`          // runs that the journal does not know; nothing begins until they are ended
	Mounts       []string      `json:"mounts"`           // where borg has mounted something on this host
	Attempts     []Attempt     `json:"attempts"`
}

// Attempt is one attempt in the agent's journal.
type Attempt struct {
	Job        job.ID   `json:"job"`
	Attempt    int      `json:"attempt"`
	Kind       job.Kind `json:"kind,omitempty"` // empty once it is finished
	Repository string   `json:"repository,omitempty"`
	State      string   `json:"state"`    // waiting, running, finished
	Unstored   int      `json:"unstored"` // events that the coordinator has not stored yet
	Cancelled  bool     `json:"cancelled"`
}

// Ask returns the status of the agent that runs on a data directory. The error
// is a *job.Failure with code unavailable when none does.
func Ask(ctx context.Context, data string) (Status, error) {
	var status Status
	err := control.Ask(ctx, data, &status)
	return status, err
}

// status implements the control socket's answer.
func (d *daemon) status() (any, error) {
	snapshot, err := d.journal.Snapshot()
	if err != nil {
		return nil, err
	}
	open, err := d.journal.Unfinished()
	if err != nil {
		return nil, err
	}
	orders := map[attempt.Key]*bus.Order{}
	for _, record := range open {
		orders[record.Key] = record.Order
	}
	mounts, err := mount.Table{}.List()
	if err != nil {
		return nil, err
	}
	hello := d.hello()
	status := Status{
		Host: d.Config.Host, Version: build.Current().Version, PID: os.Getpid(), StartedAt: d.startedAt,
		Data: d.Config.Data, Slots: d.Config.Slots, BorgVersion: hello.BorgVersion, BorgFailure: hello.BorgFailure,
		Bus: d.uplink.Status(), Stamp: snapshot.Stamp, JournalDepth: snapshot.Depth, Attempts: []Attempt{},
		Damaged: append([]string{}, DamagedJournals(d.Config.Data)...), Orphans: append([]string{}, d.worker.Orphans()...),
		Mounts: append([]string{}, mounts...),
	}
	for _, record := range snapshot.Records {
		status.Attempts = append(status.Attempts, describe(record, orders[record.Key]))
	}
	return status, nil
}

func describe(record attempt.Record, order *bus.Order) Attempt {
	a := Attempt{
		Job: record.Key.Job, Attempt: record.Key.Number, State: "waiting",
		Unstored: record.LastSeq - record.Stored, Cancelled: record.Cancelled,
	}
	if order != nil {
		a.Kind, a.Repository = order.Kind, order.Repository.Name
	}
	switch {
	case record.Finished:
		a.State = "finished"
	case record.Mark.StartedTold:
		a.State = "running"
	}
	return a
}
