package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/oklog/run"
)

// How long the shutdown may take: for requests that are under way, and in all.
const (
	drainPatience    = 5 * time.Second
	shutdownPatience = 20 * time.Second
)

// run runs the actors until ctx ends or one of them fails. An oklog/run group
// returns only the first error and waits for every actor, so each actor logs
// its own error, and a watchdog gives up on one that does not end.
func (d *daemon) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group run.Group
	add := func(name string, actor func(context.Context) error) {
		group.Add(func() error {
			err := actor(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				d.logger.Error("part failed", "part", name, "err", err)
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}, func(error) { stop() }) // whatever ended first, the watchdog starts
	}
	add("signal", func(context.Context) error { <-ctx.Done(); return nil })
	add("dispatch", d.dispatch.Run)
	add("agentlink", d.receiver.Run)
	add("proxy", d.proxy.Run)
	add("hosts", d.posts.Run)
	if d.depot != nil {
		add("depot", d.depot.Run)
	}
	add("catalog", d.catalog.Run)
	add("plan", d.plans.Run)
	add("alert", d.alerts.Run)
	add("notify", d.notify.Run)
	add("deadman", d.deadman.Run)
	add("enrol", d.enrol.Run)
	add("authority", d.authority.Run)
	add("busapi", d.busAPI.Run)
	add("metrics", d.metrics.Run)
	add("disk", d.disk.Run)
	add("http", d.serve)

	ended := make(chan error, 1)
	go func() { ended <- group.Run() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		d.logger.Info("stopping; jobs on the hosts go on")
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(shutdownPatience):
		return fmt.Errorf("not every part ended within %s", shutdownPatience)
	}
}

// serve serves HTTP until ctx ends, then lets requests finish for a moment.
func (d *daemon) serve(ctx context.Context) error {
	stopped := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
		defer cancel()
		if err := d.server.Shutdown(patience); err != nil {
			_ = d.server.Close() // cuts what did not finish
		}
	})
	defer stopped()
	if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
