package web

import (
	"net/http"
	"net/url"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file asks borg for archives, and for the files of one.

// refresh asks borg for all archives of a repository.
func (s *site) refresh(w http.ResponseWriter, r *http.Request) {
	repository := r.PathValue("repository")
	if !s.parse(w, r) {
		return
	}
	after := archivesURL(repository)
	refused := s.list(w, r, job.ListSpec{}, after)
	if refused == nil {
		return
	}
	v, err := s.archives(r.Context(), repository, url.Values{}, s.commandsFor(r))
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	v.Data.(*archivesPage).Refused = refused
	v.Address, v.Status = after, refused.Code.HTTPStatus()
	s.render(w, r, v)
}

// listFiles asks borg for the files of an archive.
func (s *site) listFiles(w http.ResponseWriter, r *http.Request) {
	at := place{Repository: r.PathValue("repository"), Archive: r.PathValue("archive")}
	if !s.parse(w, r) {
		return
	}
	at.Path = r.PostForm.Get("path")
	refused := s.list(w, r, job.ListSpec{Archive: at.Archive}, at.Files())
	if refused == nil {
		return
	}
	v, err := s.files(r.Context(), at, url.Values{}, s.commandsFor(r))
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	v.Data.(*filesPage).Refused = refused
	v.Address, v.Status = at.Files(), refused.Code.HTTPStatus()
	s.render(w, r, v)
}

// list submits a list job and shows the page that follows it, or returns why not.
func (s *site) list(w http.ResponseWriter, r *http.Request, spec job.ListSpec, after string) *job.Failure {
	repository := r.PathValue("repository")
	host, err := s.listHost(r, repository, spec.Archive)
	if err == nil {
		err = spec.Validate()
	}
	if err == nil {
		request := job.Request{Host: host, Kind: job.List, Repository: repository, Spec: encode(spec), IdempotencyKey: r.PostForm.Get("key")}
		_, err = s.Actions.Submit(r.Context(), fleet.ActorOf(r.Context()), request)
	}
	if err != nil {
		return failures(err)[0]
	}
	http.Redirect(w, r, after, http.StatusSeeOther)
	return nil
}

// listHost is the host that was chosen, or the one that would be offered.
func (s *site) listHost(r *http.Request, repository, archive string) (string, error) {
	maker := ""
	if a, err := s.Archives.Archive(r.Context(), repository, archive); err == nil && archive != "" {
		maker = a.Host
	}
	_, host, err := s.hostField(r.Context(), &typed{Values: r.PostForm}, task{repository, job.List}, maker, s.lastHost(r.Context(), repository))
	return host, err
}
