package web

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// confirmBreakLock is the page before a repository's lock is broken. Which host
// shall do it, and whether by force, is in its address.
func (s *site) confirmBreakLock(r *http.Request) (*confirmation, error) {
	repository, err := s.Repositories.Repository(r.Context(), r.PathValue("repository"))
	if err != nil {
		return nil, err
	}
	host, err := s.Hosts.Host(r.Context(), r.URL.Query().Get("host"))
	if err != nil {
		return nil, err
	}
	spec := job.BreakLockSpec{Force: r.URL.Query().Get("force") != ""}
	page := &confirmation{
		Title: "Break the lock of " + repository.Name, Action: "break the lock", Nav: "/repositories",
		Back: repositoryURL(repository.Name), BackTo: repository.Name, Button: "Break the lock",
		Happens: []string{
			host.Name + " looks at who holds the lock, and says so in the job.",
			"The lock is removed only if every borg that holds it ran on " + host.Name + " and is gone. Of others, and of a repository on a server, nothing can be known: then it stays.",
		},
		Command: s.commandsFor(r).BreakLock(repository.Name, host.Name, spec.Force),
	}
	if spec.Force {
		page.Ask = repository.Name
		page.Happens[1] = "The lock is removed whoever holds it. If a borg is still at work on the repository, anywhere, both damage it. Make sure that there is none."
	}
	page.do = func(ctx context.Context, by fleet.Actor) error {
		j, err := s.Actions.Submit(ctx, by, job.Request{Host: host.Name, Kind: job.BreakLock, Repository: repository.Name, Spec: encode(spec)})
		page.after = jobURL(j.ID)
		return err
	}
	return page, nil
}

// BreakLock removes the lock that a killed borg left.
func (c commands) BreakLock(name, host string, force bool) string {
	words := []string{"repo", "break-lock", name, "--host", host}
	if force {
		words = append(words, "--force")
	}
	return c.borgfleet(words...)
}

// lockFigures say whether there was a lock, and whether it is gone.
func lockFigures(r *job.Result) []figure {
	state := "not broken"
	switch {
	case r.Broken:
		state = "broken"
	case len(r.Locks) == 0 && len(r.Warnings) == 0:
		state = "free"
	}
	return []figure{{"Lock", state}, {"Holders", human.Count(len(r.Locks))}}
}
