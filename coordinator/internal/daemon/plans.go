package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/alert"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
	"github.com/borgfleet/borgfleet/coordinator/internal/notify"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// buildPlans builds what happens by itself: plans, alerts, and whom they are told.
func (d *daemon) buildPlans(context.Context) (err error) {
	d.notify, err = notify.New(notify.Options{
		Store: d.store, Vault: d.vault, Feed: d.feed, URL: d.pageURL(), Logger: d.logger, Now: fault.Now,
	})
	if err != nil {
		return err
	}
	d.plans, err = plan.New(plan.Options{
		Store: d.store, Jobs: d.dispatch, Feed: d.feed, Runs: d.notify, Logger: d.logger, Now: fault.Now,
	})
	if err != nil {
		return err
	}
	d.alerts, err = alert.New(alert.Options{Store: d.store, Feed: d.feed, Conditions: d.conditions, Logger: d.logger, Now: fault.Now})
	if err != nil {
		return err
	}
	d.manifests = manifest.New(manifest.Options{Store: d.store, Fleet: d.registry, Plans: d.plans, Notify: d.notify, Logger: d.logger})
	return d.buildDeadman()
}

// buildDeadman builds what tells somebody else that the coordinator lives.
func (d *daemon) buildDeadman() error {
	c := d.config.Deadman
	url := secret.New([]byte(c.URL))
	if c.URLFile != "" {
		var err error
		if url, err = secret.ReadFile(c.URLFile); err != nil {
			return fmt.Errorf("deadman.url_file: %w", err)
		}
	}
	d.deadman = notify.NewDeadman(notify.DeadmanOptions{URL: url, Every: time.Duration(c.Every), Healthy: d.healthy, Logger: d.logger})
	return nil
}

// healthy returns why the coordinator cannot do its work, or nil.
func (d *daemon) healthy() error {
	for _, check := range []func() error{d.store.Healthy, d.disk.Healthy, d.broker.Healthy} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// conditions is everything that needs a person now: what the status says of jobs,
// plans, hosts, repositories and the coordinator itself, and who cannot be told.
func (d *daemon) conditions(ctx context.Context) ([]fleet.Condition, error) {
	status, err := d.dispatch.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	plans, err := d.plans.Specs(ctx)
	if err != nil {
		return nil, fmt.Errorf("read plans: %w", err)
	}
	conditions := append(alert.FromAttention(status.Attention), d.notify.Conditions()...)
	conditions = append(conditions, alert.HostConditions(fault.Now(), status.Hosts, status, build.Version)...)
	hostLabels, planLabels := map[string]map[string]string{}, map[string]map[string]string{}
	for _, h := range status.Hosts {
		hostLabels[h.Name] = h.Labels
	}
	for name, p := range plans {
		planLabels[name] = p.Labels
	}
	alert.Label(conditions, hostLabels, planLabels)
	return conditions, nil
}

// planAttention is what plans miss, as the status says it.
func (d *daemon) planAttention() []fleet.Attention {
	if d.plans == nil { // while the rest is built
		return nil
	}
	conditions := d.plans.Conditions()
	items := make([]fleet.Attention, len(conditions))
	for i, c := range conditions {
		items[i] = fleet.Attention{
			Kind: c.Kind, Severity: c.Severity, Host: c.Host, Repository: c.Repository, Plan: c.Plan, Job: c.Job,
			Message: c.Message, Hint: c.Hint, Since: c.Since,
		}
	}
	return items
}
