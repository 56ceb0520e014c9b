package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Targets returns where notifications go, by name.
func (c *Client) Targets(ctx context.Context) ([]fleet.Target, error) {
	var answer struct {
		Targets []fleet.Target `json:"targets"`
	}
	err := c.call(ctx, http.MethodGet, "/targets", nil, &answer)
	return answer.Targets, err
}

// PutTarget adds a target of notifications, or changes it.
func (c *Client) PutTarget(ctx context.Context, asked fleet.NewTarget) (fleet.Target, error) {
	request := struct {
		URL      string `json:"url,omitempty"`
		Kind     string `json:"kind,omitempty"`
		Secret   string `json:"secret,omitempty"`
		Disabled bool   `json:"disabled,omitempty"`
	}{string(asked.URL.Reveal()), asked.Kind, string(asked.Secret.Reveal()), asked.Disabled}
	var target fleet.Target
	return target, c.call(ctx, http.MethodPut, targetOf(asked.Name), request, &target)
}

func targetOf(name string) string { return "/targets/" + url.PathEscape(name) }

// RemoveTarget removes a target of notifications.
func (c *Client) RemoveTarget(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, targetOf(name), nil, nil)
}

// TestTarget sends a test message, which may take a while, and returns what came
// of it.
func (c *Client) TestTarget(ctx context.Context, name string) (fleet.Delivery, error) {
	var delivery fleet.Delivery
	return delivery, c.slowCall(ctx, http.MethodPost, targetOf(name)+"/test", nil, &delivery)
}

// Rules returns which alerts go where, by the rules' names.
func (c *Client) Rules(ctx context.Context) ([]fleet.Rule, error) {
	var answer struct {
		Rules []fleet.Rule `json:"rules"`
	}
	err := c.call(ctx, http.MethodGet, "/rules", nil, &answer)
	return answer.Rules, err
}

// PutRule adds a rule of notifications, or changes it, as a whole.
func (c *Client) PutRule(ctx context.Context, rule fleet.Rule) (fleet.Rule, error) {
	request := struct {
		fleet.Rule
		Name *string `json:"name,omitempty"` // is in the path
	}{Rule: rule}
	var stored fleet.Rule
	return stored, c.call(ctx, http.MethodPut, ruleOf(rule.Name), request, &stored)
}

func ruleOf(name string) string { return "/rules/" + url.PathEscape(name) }

// RemoveRule removes a rule of notifications.
func (c *Client) RemoveRule(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, ruleOf(name), nil, nil)
}

// Deliveries returns one page of what was sent, newest first, and where the next
// begins. target narrows it to one; empty: all.
func (c *Client) Deliveries(ctx context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error) {
	q := query{}
	q.text("target", target)
	q.page(limit, cursor)
	var page struct {
		Deliveries []fleet.Delivery `json:"deliveries"`
		Cursor     string           `json:"cursor"`
	}
	err := c.call(ctx, http.MethodGet, "/deliveries"+q.String(), nil, &page)
	return page.Deliveries, page.Cursor, err
}
