package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Alerts returns one page of what needs a person: what still holds first, then
// newest first.
func (c *Client) Alerts(ctx context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error) {
	q := query{}
	q.text("kind", filter.Kind)
	q.text("severity", string(filter.Severity))
	q.text("host", filter.Host)
	q.text("repository", filter.Repository)
	q.text("plan", filter.Plan)
	if filter.Open {
		q.text("open", "true")
	}
	q.page(filter.Limit, filter.Cursor)
	var page fleet.AlertPage
	return page, c.call(ctx, http.MethodGet, "/alerts"+q.String(), nil, &page)
}

// Alert returns one alert.
func (c *Client) Alert(ctx context.Context, id string) (fleet.Alert, error) {
	var alert fleet.Alert
	return alert, c.call(ctx, http.MethodGet, "/alerts/"+url.PathEscape(id), nil, &alert)
}

// Silences returns the silences.
func (c *Client) Silences(ctx context.Context) ([]fleet.Silence, error) {
	var answer struct {
		Silences []fleet.Silence `json:"silences"`
	}
	err := c.call(ctx, http.MethodGet, "/silences", nil, &answer)
	return answer.Silences, err
}

// AddSilence keeps alerts quiet until a time.
func (c *Client) AddSilence(ctx context.Context, asked fleet.Silence) (fleet.Silence, error) {
	request := struct {
		Kind       string    `json:"kind,omitempty"`
		Host       string    `json:"host,omitempty"`
		Repository string    `json:"repository,omitempty"`
		Plan       string    `json:"plan,omitempty"`
		Reason     string    `json:"reason,omitempty"`
		Until      time.Time `json:"until"`
	}{asked.Kind, asked.Host, asked.Repository, asked.Plan, asked.Reason, asked.Until}
	var silence fleet.Silence
	return silence, c.call(ctx, http.MethodPost, "/silences", request, &silence)
}

// RemoveSilence ends a silence.
func (c *Client) RemoveSilence(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/silences/"+url.PathEscape(id), nil, nil)
}
