package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// jobForm is a page with a form that submits one job, as it is shown and as it
// was sent. Its address may fill it in.
type jobForm struct {
	Title   string
	Nav     string
	Action  string // where it is sent
	Crumbs  []crumb
	About   string   // what it does
	Happens []string // what it takes away, a sentence each
	Fields  []field
	Ask     string // has to be typed; empty: nothing
	Typed   string
	Button  string
	Key     string // so that a second click is not a second job
	Command string // the same from a terminal
	Post    string // the same over HTTP
	Note    string // beside the button
	Dense   bool   // fields are short
	NoHost  bool   // there is none to run it on
	Closed  string // the repository in the depot, if that is because it lets none in
	Faults  []*job.Failure
	reader

	request job.Request
	spec    job.Spec
	wrong   []error // what cannot even be put into a spec
	cli     []string
	after   string // where to go when it is submitted; empty: to the job
	try     string // this host is connected to first, if it is reached over SSH
}

// field is one field of a jobForm. Its name is that of the spec's field.
type field struct {
	Name        string
	Scope       string // of the form, where a page has several
	Label       string
	Kind        string // text, number, area, select, check, secret
	Value       string
	Choices     []choice // of a select
	Suggestions []string // for a text
	Checked     bool     // of a check
	Help        string
	Placeholder string
	Needed      bool
	Wide        bool     // takes a whole line
	Also        []string // names of the spec's fields that it stands for
	Fault       *job.Failure
}

// ID is that of the field's element.
func (f field) ID() string { return "f-" + f.Scope + strings.ReplaceAll(f.Name, "_", "-") }

// formBuilder builds a form from what was typed, or from its address.
type formBuilder func(r *http.Request, v *typed) (*jobForm, error)

// typed are the values of a form. What is no number where one must be is kept
// as a fault.
type typed struct {
	url.Values
	sent  bool // else they are from the address, and defaults may fill in
	wrong []error
}

// text is a value without blanks around it.
func (v *typed) text(name string) string { return strings.TrimSpace(v.Get(name)) }

func (v *typed) checked(name string) bool { return v.Get(name) != "" }

func (v *typed) lines(name string) []string { return lines(v.Get(name)) }

// or is what was typed, or the default if the form was not sent.
func (v *typed) or(name, standard string) string {
	if v.sent || v.Has(name) {
		return v.text(name)
	}
	return standard
}

// count is a number; empty is 0.
func (v *typed) count(name string) int { return v.countOr(name, "") }

func (v *typed) countOr(name, standard string) int {
	text := v.or(name, standard)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1_000_000_000 {
		v.wrong = append(v.wrong, job.Fail(job.InvalidSpec, "%s: %.40q is not a number", name, text))
		return 0
	}
	return n
}

// seconds is a duration, such as 90m, 2h or 1d; empty is 0.
func (v *typed) seconds(name string) int {
	text := v.text(name)
	if text == "" {
		return 0
	}
	days, isDays := strings.CutSuffix(text, "d")
	if n, err := strconv.ParseUint(days, 10, 12); isDays && err == nil {
		return int(n) * 24 * 3600 //nolint:gosec // of 12 bits
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 10_000*time.Hour {
		v.wrong = append(v.wrong, job.Fail(job.InvalidSpec, "%s: %.40q is not a duration", name, text).WithHint("for example 30m, 2h or 1d"))
		return 0
	}
	return int(d.Seconds())
}

// form serves a page with a form, and on POST submits what was typed.
func (s *site) form(build formBuilder) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &typed{Values: r.URL.Query()}
		if r.Method == http.MethodPost {
			if !s.parse(w, r) {
				return
			}
			v = &typed{Values: r.PostForm, sent: true}
		}
		form, err := build(r, v)
		if err == nil {
			err = form.allowed(r.Context())
		}
		if err != nil {
			s.faultOf(w, r, err)
			return
		}
		form.Action = r.URL.EscapedPath()
		if v.sent && s.sendForm(w, r, form, v) {
			return
		}
		s.render(w, r, form.view(s.commandsFor(r)))
	}
}

// allowed refuses who may not submit what the form is for.
func (f *jobForm) allowed(ctx context.Context) error {
	f.reader = readerOf(ctx)
	return needRole(ctx, fleet.StartRole(f.spec.Kind(), f.spec))
}

// sendForm submits the form and shows what came of it. It reports whether it has
// answered; if not, the form says why.
func (s *site) sendForm(w http.ResponseWriter, r *http.Request, form *jobForm, v *typed) bool {
	form.Typed = v.Get("confirm")
	if form.Ask != "" && form.Typed != form.Ask {
		form.Faults = append(form.Faults, job.Invalid("confirm", "type `%s` to confirm", form.Ask))
	}
	form.Faults = append(form.Faults, faultsOf(errors.Join(append(slices.Clone(v.wrong), form.wrong...)...))...)
	form.Faults = append(form.Faults, faultsOf(form.spec.Validate())...)
	if len(form.Faults) > 0 {
		return false
	}
	request := form.request
	request.Kind, request.Spec, request.IdempotencyKey = form.spec.Kind(), encode(form.spec), v.Get("key")
	by := fleet.ActorOf(r.Context())
	if form.try != "" && s.Connections != nil {
		if err := s.Connections.TryHost(r.Context(), by, form.try); err != nil {
			form.Faults = failures(err)
			return false
		}
	}
	j, err := s.Actions.Submit(r.Context(), by, request)
	if form.Faults = faultsOf(err); err != nil {
		return false
	}
	after := form.after
	if after == "" {
		after = jobURL(j.ID)
	}
	http.Redirect(w, r, after, http.StatusSeeOther)
	return true
}

// faultsOf are the failures in err; none in nil.
func faultsOf(err error) []*job.Failure {
	if err == nil {
		return nil
	}
	return failures(err)
}

// view puts each fault at its field, and shows the page.
func (f *jobForm) view(c commands) *view {
	placeFaults(f.Fields, f.Faults)
	request := f.request
	request.Kind = f.spec.Kind()
	if spec := encode(f.spec); string(spec) != "{}" {
		request.Spec = spec
	}
	f.Command, f.Post = c.borgfleet(f.cli...), c.Post(request)
	v := &view{Title: f.Title, Nav: f.Nav, Body: "job-form", Data: f}
	if len(f.Faults) > 0 {
		v.Status = f.Faults[0].Code.HTTPStatus()
	}
	return v
}

// Fault is what was wrong with a field that is none of Fields.
func (f *jobForm) Fault(name string) *job.Failure { return faultOf(f.Faults, name) }

// hostField is the menu of hosts, and the one that is chosen: the one that was
// asked for, or the first of the suggested ones that is there, or any that is.
func (s *site) hostField(ctx context.Context, v *typed, work task, suggested ...string) (field, string, error) {
	f := field{Name: "host", Label: "On host", Kind: "select", Help: "Borg runs there and reaches the repository from there."}
	hosts, kept, err := s.able(ctx, work)
	if err != nil {
		return f, "", err
	}
	if kept && fleet.OnDepot(work.Kind) {
		f.Help = "The repository is in the depot: the coordinator does it itself."
		if work.Kind == job.Prune {
			f.Label, f.Help = "Of host", "Whose archives. The repository is in the depot: the coordinator does it itself."
		}
	}
	chosen := v.text("host")
	if chosen == "" {
		chosen = preferred(hosts, suggested)
	}
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	f.Choices = choices(chosen, "", names)
	for i, h := range hosts {
		if !h.Online {
			f.Choices[i].Label += " (not connected)"
		}
	}
	return f, chosen, nil
}

// preferred is the first of the suggested hosts that is connected; else the first
// that is; else the first suggested one that there is, or any.
func preferred(hosts []fleet.HostView, suggested []string) string {
	if name := certain(hosts, suggested); name != "" {
		return name
	}
	for _, online := range []bool{true, false} {
		for _, h := range hosts {
			if h.Online == online {
				return h.Name
			}
		}
	}
	return ""
}

// certain is the host that nobody needs to be asked for: the first of the suggested
// ones that is connected, or the only one that there is; else empty.
func certain(hosts []fleet.HostView, suggested []string) string {
	for _, name := range suggested {
		if slices.ContainsFunc(hosts, func(h fleet.HostView) bool { return h.Name == name && h.Online }) {
			return name
		}
	}
	if len(hosts) == 1 {
		return hosts[0].Name
	}
	return ""
}

// placeFaults puts each fault at its field.
func placeFaults(fields []field, faults []*job.Failure) {
	for i := range fields {
		for _, name := range append([]string{fields[i].Name}, fields[i].Also...) {
			if fields[i].Fault == nil {
				fields[i].Fault = faultOf(faults, name)
			}
		}
	}
}
