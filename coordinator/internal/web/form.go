package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// maxForm bounds what a form may send: a spec at its largest, URL-encoded.
const maxForm = 3 * job.MaxSpecBytes

// backupForm is "back up now" on a host's page, as it is shown and as it was
// sent.
type backupForm struct {
	Key         string // so that a second click is not a second job
	Repository  string
	Paths       string // one a line
	Exclude     string // one a line
	Compression string
	ListFiles   bool
	Known       []string // repositories to choose from
	Faults      []*job.Failure
}

// compressions are the choices of the form; the API takes all that borg takes.
var compressions = []string{"lz4", "zstd,3", "zstd,10", "auto,zstd,3", "zlib,6", "lzma,6", "none"}

// RepositoryChoices is the menu of repositories.
func (f *backupForm) RepositoryChoices() []choice { return choices(f.Repository, "", f.Known) }

// CompressionChoices is the menu of compressions.
func (f *backupForm) CompressionChoices() []choice { return choices(f.Compression, "", compressions) }

// RepositoryOrExample is the chosen repository, or one to show in a command.
func (f *backupForm) RepositoryOrExample() string {
	switch {
	case f.Repository != "":
		return f.Repository
	case len(f.Known) > 0:
		return f.Known[0]
	}
	return "main"
}

// PathList are the paths as typed.
func (f *backupForm) PathList() []string { return lines(f.Paths) }

// Fault is what was wrong with a field.
func (f *backupForm) Fault(field string) *job.Failure { return faultOf(f.Faults, field) }

// lines are the lines of a text, without blank ones.
func lines(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.Trim(line, "\r\n\t "); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// faultOf finds the fault of one field: its message begins with the field's name.
func faultOf(faults []*job.Failure, field string) *job.Failure {
	for _, f := range faults {
		if rest, ok := strings.CutPrefix(f.Message, field); ok && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "[")) {
			return f
		}
	}
	return nil
}

// fillBackupForm offers what was backed up last, unless the form was sent.
func (s *site) fillBackupForm(ctx context.Context, h fleet.HostView, form *backupForm) (*backupForm, error) {
	if form == nil {
		form = &backupForm{Key: newKey(s)}
		if h.LastBackup != nil {
			s.likeLast(ctx, h.LastBackup, form)
		}
	}
	repositories, err := s.Repositories.Repositories(ctx)
	if err != nil {
		return nil, wrap("repositories", err)
	}
	for _, r := range repositories {
		if takes(h, r, job.Backup) && (h.Mode != fleet.ModeSSH || r.Custody != fleet.CustodyHosts) {
			form.Known = append(form.Known, r.Name)
		}
	}
	return form, nil
}

// likeLast fills the form as the last backup was. Its job may be gone by now,
// then the form stays empty.
func (s *site) likeLast(ctx context.Context, last *fleet.BackupSummary, form *backupForm) {
	form.Repository = last.Repository
	j, err := s.Jobs.Job(ctx, last.Job)
	if err != nil {
		s.logger.Debug("last backup is not there", "job", last.Job, "err", err)
		return
	}
	if spec, ok := j.Spec.(job.BackupSpec); ok {
		form.Paths, form.Exclude = strings.Join(spec.Paths, "\n"), strings.Join(spec.Exclude, "\n")
		form.Compression, form.ListFiles = spec.Compression, spec.ListFiles
	}
}

func newKey(s *site) string { return "page-" + string(job.NewID(s.Now())) }

// submitBackup serves the form on a host's page.
func (s *site) submitBackup(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	name := r.PathValue("host")
	form := &backupForm{
		Key: r.PostForm.Get("key"), Repository: r.PostForm.Get("repository"), Paths: r.PostForm.Get("paths"),
		Exclude: r.PostForm.Get("exclude"), Compression: r.PostForm.Get("compression"),
		ListFiles: r.PostForm.Get("list_files") != "",
	}
	spec := job.BackupSpec{Paths: lines(form.Paths), Exclude: lines(form.Exclude), Compression: form.Compression, ListFiles: form.ListFiles}
	request := job.Request{Host: name, Kind: job.Backup, Repository: form.Repository, IdempotencyKey: form.Key}
	if form.Faults = s.submit(w, r, request, spec); form.Faults == nil {
		return
	}
	v, err := s.host(r.Context(), name, s.commandsFor(r), form)
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	v.Status = form.Faults[0].Code.HTTPStatus()
	s.render(w, r, v)
}

// careForm is what can be run on a repository from its page.
type careForm struct {
	Key    string
	Kind   job.Kind
	Host   string
	Kinds  []job.Kind // to choose from
	Known  []string   // hosts to choose from
	Faults []*job.Failure
}

// careKinds need nothing but a host to run on, and delete nothing.
var careKinds = []job.Kind{job.Info, job.List, job.Check, job.Compact, job.Init}

// KindChoices is the menu of kinds.
func (f *careForm) KindChoices() []choice {
	list := choices(f.Kind, "", f.Kinds)
	for i, c := range list {
		list[i].Label = careLabels[job.Kind(c.Value)]
	}
	return list
}

var careLabels = map[job.Kind]string{
	job.Info: "info: read its sizes", job.List: "list its archives", job.Check: "check its consistency",
	job.Compact: "compact: free space of deleted archives", job.Init: "init: create it",
}

// HostChoices is the menu of hosts.
func (f *careForm) HostChoices() []choice { return choices(f.Host, "", f.Known) }

// Fault is what was wrong with a field.
func (f *careForm) Fault(field string) *job.Failure { return faultOf(f.Faults, field) }

func (s *site) fillCareForm(ctx context.Context, r fleet.RepositoryView, form *careForm) (*careForm, error) {
	if form == nil {
		form = &careForm{Key: newKey(s), Kind: job.Info}
		if r.LastBackup != nil {
			form.Host = r.LastBackup.Host
		} else if r.Info == nil && readerOf(ctx).mayRun(job.Init) {
			form.Kind = job.Init
		}
		if form.Host == "" && len(r.SealedFor) > 0 { // no other can open it
			form.Host = r.SealedFor[0]
		}
	}
	for _, kind := range careKinds {
		if readerOf(ctx).mayRun(kind) {
			form.Kinds = append(form.Kinds, kind)
		}
	}
	hosts, kept, err := s.able(ctx, task{r.Name, job.Info})
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		form.Known = append(form.Known, h.Name)
	}
	if kept {
		form.Host = fleet.LocalHost
	}
	return form, nil
}

// submitCare serves the form on a repository's page.
func (s *site) submitCare(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	name := r.PathValue("repository")
	form := &careForm{Key: r.PostForm.Get("key"), Kind: job.Kind(r.PostForm.Get("kind")), Host: r.PostForm.Get("host")}
	request := job.Request{Host: form.Host, Kind: form.Kind, Repository: name, IdempotencyKey: form.Key}
	if form.Faults = s.submit(w, r, request, nil); form.Faults == nil {
		return
	}
	v, err := s.repository(r.Context(), name, s.commandsFor(r), form)
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	v.Status = form.Faults[0].Code.HTTPStatus()
	s.render(w, r, v)
}

// submit submits a job and shows it, or returns what is wrong with it.
func (s *site) submit(w http.ResponseWriter, r *http.Request, request job.Request, spec job.Spec) []*job.Failure {
	if spec != nil {
		if err := spec.Validate(); err != nil {
			return failures(err)
		}
		encoded, err := json.Marshal(spec)
		if err != nil {
			return failures(err)
		}
		request.Spec = encoded
	}
	j, err := s.Actions.Submit(r.Context(), fleet.ActorOf(r.Context()), request)
	if err != nil {
		return failures(err)
	}
	http.Redirect(w, r, jobURL(j.ID), http.StatusSeeOther)
	return nil
}

// parse reads a form; it answers itself when it cannot.
func (s *site) parse(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseForm()
	if err == nil {
		return true
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		err = job.Fail(job.TooLarge, "The form is larger than %s.", human.Bytes(int64(maxForm))).
			WithHint("Name directories and patterns instead of single files.")
	} else {
		err = job.Fail(job.InvalidRequest, "The form cannot be read: %s.", err)
	}
	s.faultOf(w, r, err)
	return false
}

// failures are all failures that are joined in err.
func failures(err error) []*job.Failure {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var list []*job.Failure
		for _, one := range joined.Unwrap() {
			list = append(list, failures(one)...)
		}
		return list
	}
	return []*job.Failure{job.AsFailure(err)}
}
