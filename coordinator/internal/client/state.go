package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// StateCopy says what a copy of the coordinator's state is.
type StateCopy struct {
	SnapshotAt time.Time `json:"snapshot_at"` // what changed later is not in it
	Outside    []string  `json:"outside"`     // what it takes besides, to set the coordinator up elsewhere
	Size       int64     `json:"size"`        // bytes
}

// BackupState writes a copy of the coordinator's own state. After an error what
// was written is not whole.
func (c *Client) BackupState(ctx context.Context, asked fleet.StateBackup, to io.Writer) (copied StateCopy, err error) {
	body, err := json.Marshal(struct {
		Recipient string `json:"recipient,omitempty"`
		Logs      bool   `json:"logs,omitempty"`
	}{asked.Recipient, asked.Logs})
	if err != nil {
		return copied, fmt.Errorf("encode request: %w", err)
	}
	request, err := c.request(ctx, http.MethodPost, "/state", strings.NewReader(string(body)))
	if err != nil {
		return copied, err
	}
	request.Header.Set("Accept", "application/octet-stream, application/problem+json")
	response, err := c.send(request)
	if err != nil {
		return copied, err
	}
	defer response.Body.Close() // read to its end, or given up
	copied.Outside = append([]string{}, response.Header.Values("Borgfleet-Outside")...)
	if copied.SnapshotAt, err = time.Parse(time.RFC3339Nano, response.Header.Get("Borgfleet-Snapshot-At")); err != nil {
		return copied, fmt.Errorf("read when the snapshot was taken: %w", err)
	}
	if copied.Size, err = io.Copy(to, response.Body); err != nil {
		return copied, fmt.Errorf("receive the copy: %w", err)
	}
	return copied, nil
}
