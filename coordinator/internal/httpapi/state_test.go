package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
)

// fakeCopy is the content of a copy.
type fakeCopy struct {
	door *door
	text string
	err  error
}

func (c fakeCopy) WriteTo(to io.Writer) (int64, error) {
	n, err := io.WriteString(to, c.text)
	return int64(n), errors.Join(err, c.err)
}

func (c fakeCopy) Close() error {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.attempts = append(c.door.attempts, "copy closed")
	return nil
}

// BackupState copies what was asked for. The recipient "broken" gets a copy
// that cannot be ended.
func (d *door) BackupState(_ context.Context, by fleet.Actor, asked fleet.StateBackup) (*fleet.StateCopy, error) {
	if err := needs(bus.Admin, by); err != nil {
		return nil, err
	}
	content := fakeCopy{door: d, text: "copy for " + asked.Recipient}
	switch asked.Recipient {
	case "":
		return nil, job.Invalid("recipient", "is missing").WithHint("give one")
	case "broken":
		content = fakeCopy{door: d, text: strings.Repeat("x", 1<<20), err: errors.New("disk")}
	}
	return &fleet.StateCopy{SnapshotAt: exampleDay, Outside: []string{"this", "that"}, Content: content}, nil
}

func TestStateIsStreamed(t *testing.T) {
	s := serve(t, nil)
	answer, text := post(t, s, adminToken, `{"recipient":"age1x"}`)
	if answer.StatusCode != http.StatusOK || text != "copy for age1x" || answer.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%s, %q, %v", answer.Status, text, answer.Header)
	}
	if diff := cmp.Diff([]string{"this", "that"}, answer.Header.Values("Borgfleet-Outside")); diff != "" {
		t.Error(diff)
	}
	if at := answer.Header.Get("Borgfleet-Snapshot-At"); at != "2026-11-22T02:00:00Z" {
		t.Errorf("snapshot at %q", at)
	}
	if diff := cmp.Diff([]string{"copy closed"}, s.door.attempts); diff != "" {
		t.Error(diff)
	}
	if answer, text := post(t, s, adminToken, `{}`); answer.StatusCode != http.StatusBadRequest || !strings.Contains(text, "recipient: is missing") {
		t.Errorf("%s, %s", answer.Status, text)
	}
	if answer, _ := post(t, s, viewerToken, `{"recipient":"age1x"}`); answer.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer got %s", answer.Status)
	}
}

// TestACopyThatCannotBeEndedIsCutOff holds that nobody takes it for a whole one.
func TestACopyThatCannotBeEndedIsCutOff(t *testing.T) {
	s := serve(t, nil)
	response, err := http.DefaultClient.Do(stateRequest(t, s, adminToken, `{"recipient":"broken"}`))
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	if err == nil {
		t.Error("it came as a whole")
	}
	if diff := cmp.Diff([]string{"copy closed"}, s.door.attempts); diff != "" {
		t.Error(diff)
	}
}

func stateRequest(t *testing.T, s *served, token, body string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/v1/state", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	return request
}

func post(t *testing.T, s *served, token, body string) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(stateRequest(t, s, token, body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}
