package remote

import (
	"context"
	"path"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/mount"
	"github.com/borgfleet/borgfleet/shared/worker"
)

// askTime bounds questions that come without a bound of their own.
const askTime = 30 * time.Second

// Policy returns what the host lets the coordinator ask for: all that the user
// may do whom the coordinator logs in as. Hooks are named, and lie in one
// directory of the host.
func (h *Host) Policy() worker.Policy { return policy{h} }

type policy struct{ host *Host }

// Check implements worker.Policy.
func (policy) Check(bus.Order) *job.Failure { return nil }

// Target implements worker.Policy.
func (p policy) Target(target string) (string, *job.Failure) { return p.resolve("target", target) }

// MountPoint implements worker.Policy. The mount point itself is not looked
// into: who serves it may hang.
func (p policy) MountPoint(point string) (string, *job.Failure) { return p.resolve("point", point) }

func (p policy) resolve(question, name string) (string, *job.Failure) {
	said, failure := p.ask(values{"ask": question, "path": path.Clean(name)})
	if failure != nil {
		return name, failure
	}
	return path.Clean(said.get("real")), nil
}

func (p policy) ask(v values) (answers, *job.Failure) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	said, err := p.host.ask(ctx, p.host.script("", v, host), nil)
	if err != nil {
		return nil, p.host.failed(err)
	}
	return said, nil
}

// Hook implements worker.Policy.
func (p policy) Hook(name string) (string, *job.Failure) {
	dir := p.host.options.Hooks
	if name == "" || strings.Contains(name, "/") || strings.HasPrefix(name, ".") {
		return "", job.Fail(job.RefusedByHost, "%q is not the name of a hook", name).
			WithHint("a hook is named without its directory, which is %s on %s", dir, p.host.options.Host)
	}
	said, failure := p.ask(values{"ask": "hook", "hooks": dir, "name": name})
	if failure != nil {
		return "", failure
	}
	switch why := said.get("why"); why {
	case "":
		return said.get("real"), nil
	case "missing":
		return "", job.Fail(job.RefusedByHost, "there is no hook %s on %s", name, p.host.options.Host).
			WithHint("put the script into %s there, and make it executable", dir)
	default:
		return "", job.Fail(job.RefusedByHost, "the hook %s on %s may not be run: it %s", name, p.host.options.Host, why).
			WithHint("hooks are executable files in %s; they and the directory belong to root, or to the user that the coordinator logs in as, and nobody else may write to either (chmod go-w)", dir)
	}
}

// Mounts returns what borg has mounted on the host.
func (h *Host) Mounts() worker.Mounts { return mounts{h} }

type mounts struct{ host *Host }

// List implements worker.Mounts.
func (m mounts) List() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	table, err := m.host.exec(ctx, m.host.script("", values{"ask": "mounts"}, host), nil)
	if err != nil {
		return nil, err
	}
	return mount.Parse(table), nil
}

// Remove implements worker.Mounts.
func (m mounts) Remove(ctx context.Context, point string) error {
	said, err := m.host.ask(ctx, m.host.script("", values{"ask": "unmount", "point": point}, host), nil)
	if err != nil {
		return err
	}
	if why := said.get("failed"); why != "" {
		return job.Fail(job.MountPointBusy, "unmount %s on %s: %s", point, m.host.options.Host, firstLine(why))
	}
	return nil
}
