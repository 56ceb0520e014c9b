package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// onHost is what every command takes that runs a job, where any host will do.
type onHost struct {
	Host string `help:"The host that runs it. Default: the only one there is." placeholder:"HOST"`
	deadlines
}

// onRepository is what every command that runs a job on a repository takes.
type onRepository struct {
	Name string `arg:"" name:"repository" help:"The repository's name."`
	onHost
}

// onArchive is what every command takes that runs a job on an archive.
type onArchive struct {
	Name    string `arg:"" name:"repository" help:"The repository's name."`
	Archive string `arg:"" help:"The archive's name."`
	byMaker
}

// byMaker is what every command takes that runs a job on archives.
type byMaker struct {
	Host string `help:"The host that runs it. Default: the one that made the archive, or the only one there is." placeholder:"HOST"`
	deadlines
}

// place is where a job runs, and what it works on.
type place struct {
	host       string // empty: the default
	repository string
	archives   []string // whose host is the default
	deadlines
}

func (c onRepository) place() place {
	return place{host: c.Host, repository: c.Name, deadlines: c.deadlines}
}

// run submits a job, watches it, and ends with its outcome.
func (c onRepository) run(s *session, spec job.Spec) error { return s.runAt(c.place(), spec) }

func (c onArchive) place() place {
	return place{host: c.Host, repository: c.Name, archives: []string{c.Archive}, deadlines: c.deadlines}
}

func (s *session) runAt(at place, spec job.Spec) error {
	done, err := s.endOf(at, spec)
	if err != nil {
		return err
	}
	return s.finish(done)
}

// endOf submits a job and returns it as it is when it is over.
func (s *session) endOf(at place, spec job.Spec) (job.Job, error) {
	api, request, err := s.prepare(at, spec)
	if err != nil {
		return job.Job{}, err
	}
	submitted, err := api.SubmitJob(s.ctx, request)
	if err != nil {
		return job.Job{}, err
	}
	return s.await(api, submitted.ID)
}

// prepare makes a request, once its spec is known to be good, and connects.
func (s *session) prepare(at place, spec job.Spec) (*client.Client, job.Request, error) {
	request := job.Request{Host: at.host, Kind: spec.Kind(), Repository: at.repository}
	if err := errors.Join(spec.Validate(), at.deadlines.set(&request)); err != nil {
		return nil, request, err
	}
	var err error
	if request.Spec, err = json.Marshal(spec); err != nil {
		return nil, request, fmt.Errorf("encode spec: %w", err)
	}
	api, err := s.connect()
	if err != nil {
		return nil, request, err
	}
	request.Host, err = s.hostFor(api, at, spec.Kind())
	return api, request, err
}

// hostFor returns the host that was named; else the only one there is; else the
// one that made the archives. For what the coordinator does itself in its depot it
// returns none.
func (s *session) hostFor(api *client.Client, at place, kind job.Kind) (string, error) {
	if at.host != "" {
		return at.host, nil
	}
	hosts, err := api.Hosts(s.ctx)
	if err != nil {
		return "", err
	}
	all := len(hosts)
	hosts = slices.DeleteFunc(hosts, func(h fleet.HostView) bool { return h.Mode == fleet.ModeLocal })
	if len(hosts) < all && at.repository != "" && kind != job.Prune && (fleet.OnDepot(kind) || kind == job.Diff) {
		repository, err := api.Repository(s.ctx, at.repository)
		if err != nil || repository.InDepot() {
			return "", err
		}
	}
	if len(hosts) == 1 {
		return hosts[0].Name, nil
	}
	names := make([]string, len(hosts))
	for i, host := range hosts {
		names[i] = host.Name
	}
	if len(names) == 0 {
		return "", job.Fail(job.UnknownHost, "there is no host yet").WithHint("let one in with: borgfleet host token NAME")
	}
	if maker := s.maker(api, at); slices.Contains(names, maker) {
		return maker, nil
	}
	return "", console.Usage("which host shall do it? (add --host with one of %s)", strings.Join(names, ", "))
}

// maker returns the host that made all of the archives; empty when that is not
// known.
func (s *session) maker(api *client.Client, at place) (host string) {
	for i, name := range at.archives {
		archive, err := api.Archive(s.ctx, at.repository, name)
		if err != nil || i > 0 && archive.Host != host { // who has made it is a guess that nobody has asked for
			return ""
		}
		host = archive.Host
	}
	return host
}
