package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// stateText is a copy of the state; one with an error cannot be ended.
type stateText struct {
	io.Reader
	err error
}

func (s stateText) WriteTo(to io.Writer) (int64, error) {
	n, err := io.Copy(to, s.Reader)
	return n, errors.Join(err, s.err)
}

func (s stateText) Close() error { return nil }

var snapshotAt = time.Date(2026, 11, 22, 2, 0, 0, 123, time.UTC)

func (b *backend) BackupState(_ context.Context, _ fleet.Actor, asked fleet.StateBackup) (*fleet.StateCopy, error) {
	content := stateText{Reader: strings.NewReader("copy for " + asked.Recipient)}
	switch asked.Recipient {
	case "":
		return nil, job.Invalid("recipient", "is missing").WithHint("give one")
	case "broken":
		content.err = errors.New("disk")
	}
	return &fleet.StateCopy{SnapshotAt: snapshotAt, Outside: []string{"this", "that"}, Content: content}, nil
}

func TestBackupState(t *testing.T) {
	c := connect(t, newBackend())
	var out bytes.Buffer
	copied, err := c.BackupState(t.Context(), fleet.StateBackup{Recipient: "age1x"}, &out)
	if err != nil || out.String() != "copy for age1x" {
		t.Fatalf("%q, %v", out.String(), err)
	}
	if diff := cmp.Diff(client.StateCopy{SnapshotAt: snapshotAt, Outside: []string{"this", "that"}, Size: 14}, copied); diff != "" {
		t.Error(diff)
	}
	if _, err := c.BackupState(t.Context(), fleet.StateBackup{Recipient: "broken"}, io.Discard); err == nil {
		t.Error("a copy that was cut short is no error")
	}
	_, err = c.BackupState(t.Context(), fleet.StateBackup{}, io.Discard)
	if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.InvalidRequest {
		t.Errorf("error %v", err)
	}
}
