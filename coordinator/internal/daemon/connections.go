package daemon

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/convert"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/shared/job"
)

// tryTime is how long people wait for a host, or a server, to answer.
const tryTime = 45 * time.Second

// openPost opens the post of a host, by how it is reached.
func (d *daemon) openPost(ctx context.Context, host fleet.Host) (post, error) {
	if host.Mode == fleet.ModeLocal {
		return d.openLocal(), nil
	}
	opened, err := d.openSSH(ctx, host)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// connections is what people want of hosts over SSH.
type connections struct{ *daemon }

// ScanSSH returns the keys with which a server proves itself.
func (c connections) ScanSSH(ctx context.Context, _ fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error) {
	signer, err := c.registry.SharedSSHSigner(ctx)
	if err != nil {
		return nil, err
	}
	ctx, done := context.WithTimeout(ctx, tryTime)
	defer done()
	return sshlink.Scan(ctx, address, jump, signer)
}

// TryHost connects to a host of mode ssh and looks at it anew, so that what is
// known of it is fresh. It leaves other hosts as they are. A *job.Failure says
// why the host is not reached.
func (c connections) TryHost(ctx context.Context, _ fleet.Actor, host string) error {
	view, err := c.registry.Host(ctx, host)
	if err != nil || view.Mode != fleet.ModeSSH {
		return err
	}
	c.posts.catchUp(host)
	p, err := c.post(host)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, tryTime)
	defer done()
	if failure := p.try(ctx); failure != nil {
		return failure
	}
	return c.proxy.Greet(ctx, host)
}

// post returns the post of a host of mode ssh.
func (d *daemon) post(host string) (*sshPost, error) {
	if k := d.posts.find(host); k != nil {
		if p, ok := k.post.(*sshPost); ok {
			return p, nil
		}
	}
	return nil, job.Fail(job.Unavailable, "host %s is not in service", host).
		WithHint("if it was added just now, try again; else the coordinator's log says why")
}

// try has the host connected, and looked at.
func (p *sshPost) try(ctx context.Context) *job.Failure {
	if failure := p.client.Try(ctx); failure != nil {
		return failure
	}
	p.remote.Forget()
	if failure := p.look(ctx); failure != nil {
		return failure
	}
	p.proxy.SetOnline(p.host.Name, true)
	return nil
}

// ConvertHost gives a host of mode ssh an agent.
func (c connections) ConvertHost(ctx context.Context, by fleet.Actor, host string) ([]fleet.ConvertStep, error) {
	return c.convert.Convert(ctx, by, host)
}

// takeHost takes a host of mode ssh out of service, for whoever converts it. Its
// connection stays.
func (d *daemon) takeHost(ctx context.Context, host string) (convert.Access, error) {
	p, err := d.post(host)
	if err != nil {
		return convert.Access{}, err
	}
	if failure := p.try(ctx); failure != nil {
		return convert.Access{}, failure
	}
	memory, failure := p.remote.Memory(ctx)
	if failure != nil {
		return convert.Access{}, failure
	}
	release, err := d.posts.lend(host)
	if err != nil {
		return convert.Access{}, err
	}
	d.dispatch.HostDisconnected(host)
	return convert.Access{
		Shell: p.client, BaseDir: memory.BaseDir, HostID: memory.HostID, Release: func(bool) { release() },
	}, nil
}
