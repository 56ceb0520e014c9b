package notify

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/hashicorp/go-hclog"
)

// DeadmanOptions are what a dead-man switch works with.
type DeadmanOptions struct {
	URL     secret.Value  // what is pinged; empty: nothing is
	Every   time.Duration // how often
	Healthy func() error  // why the coordinator does not do its work; nil: it does
	Logger  hclog.Logger
	Client  *http.Client // default: as of a service
}

// Deadman pings an address as long as the coordinator is healthy, so that whoever
// listens there notices its death.
type Deadman struct {
	options DeadmanOptions
	logger  hclog.Logger
	said    string // why it was not pinged, as far as that was logged
}

// NewDeadman returns a dead-man switch that does nothing before Run.
func NewDeadman(options DeadmanOptions) *Deadman {
	if options.Client == nil {
		options.Client = newClient()
	}
	return &Deadman{options: options, logger: options.Logger.Named("deadman")}
}

// Run pings until the context ends, whose error it returns.
func (d *Deadman) Run(ctx context.Context) error {
	if d.options.URL.Empty() {
		<-ctx.Done()
		return ctx.Err()
	}
	ticker := time.NewTicker(d.options.Every)
	defer ticker.Stop()
	for {
		d.say(ctx, d.ping(ctx))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// ping pings once. The error holds nothing of the address.
func (d *Deadman) ping(ctx context.Context) string {
	if err := d.options.Healthy(); err != nil {
		return "the coordinator is not healthy: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	address := strings.TrimSpace(string(d.options.URL.Reveal()))
	if err := post(ctx, d.options.Client, address, http.Header{}, nil); err != nil {
		parsed, _ := url.Parse(address)
		return place{kind: kindHealthchecks, url: parsed}.scrub(err.Error())
	}
	return ""
}

// say logs when pinging begins to fail, and when it works again.
func (d *Deadman) say(ctx context.Context, trouble string) {
	switch {
	case trouble == d.said || ctx.Err() != nil:
	case trouble == "":
		d.logger.Info("dead-man switch is pinged again")
	default:
		d.logger.Warn("dead-man switch is not pinged", "err", trouble)
	}
	if ctx.Err() == nil {
		d.said = trouble
	}
}
