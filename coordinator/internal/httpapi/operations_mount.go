package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// NewBorgMount is a request to mount archives.
type NewBorgMount struct {
	BorgBody
	ArchiveName string `json:"archive_name,omitempty" maxLength:"200" doc:"the archive's name; left out: the whole repository, each archive a directory"`
	MountPoint  string `json:"mount_point" minLength:"1" maxLength:"4096" doc:"an absolute directory on the host, below one that its policy names; made when it is missing, and empty when it is there"`
}

// BorgMounted is what was mounted.
type BorgMounted struct {
	Success     bool   `json:"success" doc:"always true: what fails is a problem document"`
	ArchiveName string `json:"archive_name" doc:"the archive's name; empty: the whole repository"`
	MountPoint  string `json:"mount_point" doc:"as it was asked for"`
	PID         int    `json:"pid" doc:"of the process on the host that keeps it mounted"`
	Message     string `json:"message" doc:"what was done, in a sentence"`
}

type borgUmountInput struct {
	Preference
	Host       string `query:"host" maxLength:"200" doc:"where it is mounted; left out: where a job has mounted it, or the only host there is"`
	MountPoint string `query:"mount_point" required:"true" minLength:"1" maxLength:"4096" doc:"what to unmount"`
}

// BorgUnmounted is what was unmounted.
type BorgUnmounted struct {
	Success    bool   `json:"success" doc:"always true: what fails is a problem document"`
	MountPoint string `json:"mount_point" doc:"as it was asked for"`
	Message    string `json:"message" doc:"what was done, in a sentence"`
}

// isDecided reports whether a mount can be used, or will never be.
func isDecided(j job.Job) bool { return j.State.Terminal() || j.Mounted() }

func (a *API) borgMount(ctx context.Context, in *struct {
	Preference
	Body NewBorgMount
}) (*waitedOutput, error) {
	asked := in.Body.request(in.Preference, job.MountSpec{Archive: in.Body.ArchiveName, MountPoint: in.Body.MountPoint})
	return a.operate(ctx, asked, waiting{until: isDecided, body: func(j job.Job) (any, error) {
		if j.State.Terminal() {
			return nil, job.Fail(job.NotMounted, "it was mounted, and is unmounted already").WithHint("mount it again")
		}
		mounted := BorgMounted{Success: true, ArchiveName: in.Body.ArchiveName, MountPoint: in.Body.MountPoint}
		if n := len(j.Attempts); n > 0 {
			mounted.PID = j.Attempts[n-1].PID
		}
		mounted.Message = fmt.Sprintf("mounted at %s on host %s, until it is unmounted or was not used for %s; no archive can be made meanwhile",
			in.Body.MountPoint, j.Host, human.Duration(job.DefaultIdle))
		return mounted, nil
	}})
}

// borgUmount needs no repository: the mount point is enough.
func (a *API) borgUmount(ctx context.Context, in *borgUmountInput) (*waitedOutput, error) {
	call := borgCall{by: fleet.ActorOf(ctx), spec: job.UmountSpec{MountPoint: in.MountPoint}, prefer: in.Preference}
	mounted, err := a.mountedOn(ctx, in.MountPoint)
	if err == nil {
		call.host, err = a.chooseHost(ctx, cmp.Or(in.Host, mounted), "")
	}
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.run(ctx, call, waiting{body: func(j job.Job) (any, error) {
		message := remark(j, fmt.Sprintf("unmounted %s on host %s", cmp.Or(resultOf(j).MountPoint, in.MountPoint), j.Host))
		return BorgUnmounted{Success: true, MountPoint: in.MountPoint, Message: message}, nil
	}})
}

// mountedOn returns the one host where a job has something mounted there; empty
// when there is none, or more than one.
func (a *API) mountedOn(ctx context.Context, mountPoint string) (string, error) {
	host := ""
	filter := job.Filter{Kind: job.Mount, State: job.Running, Limit: mountsAtOnce}
	for {
		page, err := a.options.Jobs.Jobs(ctx, filter)
		if err != nil {
			return "", err
		}
		for _, j := range page.Jobs {
			spec, ok := j.Spec.(job.MountSpec)
			switch {
			case !ok || path.Clean(spec.MountPoint) != path.Clean(mountPoint) || j.Host == host:
			case host != "":
				return "", nil
			default:
				host = j.Host
			}
		}
		if page.Cursor == "" {
			return host, nil
		}
		filter.Cursor = page.Cursor
	}
}

// mountsAtOnce is how many mounts are read at a time.
const mountsAtOnce = 100

func (a *API) registerBorgMounts() {
	mount := a.borg(operation{
		id: "borg-mount", method: http.MethodPost, path: "/mount", summary: "Mount an archive, or all of them",
		description: "Answers when it can be used; the job runs until it is unmounted.",
		request: NewBorgMount{
			BorgBody:    BorgBody{RepositoryPath: "/srv/borg/web1", Passphrase: "correct horse battery staple"},
			ArchiveName: "web1_20261122_020000", MountPoint: "/var/restore/borgfleet/mnt",
		},
		answer: BorgMounted{
			Success: true, ArchiveName: "web1_20261122_020000", MountPoint: "/var/restore/borgfleet/mnt", PID: 4711,
			Message: "mounted at /var/restore/borgfleet/mnt on host web1, until it is unmounted or was not used for 30 min; no archive can be made meanwhile",
		},
		failures: []job.Failure{noArchive(),
			{Code: job.TargetNotEmpty, Message: "/var/restore/borgfleet/mnt is not empty", Hint: "choose a directory that is"},
			{Code: job.MountPointBusy, Message: "something is mounted at /var/restore/borgfleet/mnt", Hint: "unmount it first"},
			{Code: job.FuseMissing, Message: "the host cannot mount", Hint: "install python3-pyfuse3"},
		},
	})
	huma.Register(a.huma, mount, a.borgMount)
	umount := a.borg(operation{
		id: "borg-umount", method: http.MethodPost, path: "/umount", summary: "Unmount what was mounted",
		answer: BorgUnmounted{Success: true, MountPoint: "/var/restore/borgfleet/mnt", Message: "unmounted /var/restore/borgfleet/mnt on host web1"},
		failures: []job.Failure{
			{Code: job.NotMounted, Message: "nothing is mounted at /var/restore/borgfleet/mnt", Hint: "look at the path"},
			{Code: job.MountPointBusy, Message: "/var/restore/borgfleet/mnt is in use", Hint: "end what uses it"},
		},
	})
	huma.Register(a.huma, umount, a.borgUmount)
}
