package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const deliveriesPerPage = 30

// notifyPage is the data of the page that says who is told of what.
type notifyPage struct {
	clock
	commands
	Targets []targetRow
	Rules   []ruleRow
	Sent    []deliveryRow
	To      string // only what was sent to this target
	Next    string
	First   string
	Tested  *deliveryRow // what came of a test
	Refused *job.Failure // why the last action was not done

	Target, Rule *notifyForm
}

// notifyForm is one of the page's forms, as it is shown and as it was sent.
type notifyForm struct {
	Scope  string
	Fields []field
	Faults []*job.Failure
	Open   bool // it is what the reader has come for
}

// notifyForms are the forms of the page that were sent, and what came of it.
type notifyForms struct {
	Target, Rule *notifyForm
	Refused      *job.Failure
}

// targetRow is where notifications go.
type targetRow struct {
	clock
	fleet.Target
}

// Chip says whether it works.
func (r targetRow) Chip() chip {
	switch {
	case r.Disabled:
		return chip{"idle", "stop", "off"}
	case r.Trouble != "":
		return chip{"fail", "fail", "fails"}
	}
	return chip{"ok", "ok", "works"}
}

// URL is where its forms are sent.
func (r targetRow) URL() string { return "/notifications/targets/" + url.PathEscape(r.Name) }

// deliveryRow is one message.
type deliveryRow struct {
	clock
	fleet.Delivery
}

// Chip is what came of it.
func (r deliveryRow) Chip() chip {
	switch {
	case r.SentAt != nil:
		return chip{"ok", "ok", "sent"}
	case r.GivenUp:
		return chip{"fail", "fail", "given up"}
	case r.Error != "":
		return chip{"warn", "warn", "tried " + human.Plural(r.Tries, "time")}
	}
	return chip{"idle", "wait", "waiting"}
}

// notifications builds the page of who is told of what. sent is what the last form
// has led to.
func (s *site) notifications(ctx context.Context, query url.Values, c commands, sent notifyForms) (*view, error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	page := &notifyPage{clock: s.moment(), commands: c, To: query.Get("target"), Refused: sent.Refused, Target: sent.Target, Rule: sent.Rule}
	targets, err := s.Notify.Targets(ctx)
	if err != nil {
		return nil, wrap("targets", err)
	}
	for _, t := range targets {
		page.Targets = append(page.Targets, targetRow{page.clock, t})
	}
	rules, err := s.Notify.Rules(ctx)
	if err != nil {
		return nil, wrap("rules", err)
	}
	for _, rule := range rules {
		page.Rules = append(page.Rules, ruleRow{rule})
	}
	if err := s.deliveries(ctx, page, query); err != nil {
		return nil, err
	}
	page.forms(query)
	v := &view{Title: "Notifications", Nav: "/alerts", Body: "notifications", Data: page, Secret: true}
	v.Status = page.status()
	return v, nil
}

// status is that of the answer: 0 if nothing was refused.
func (p *notifyPage) status() int {
	for _, faults := range [][]*job.Failure{p.Target.Faults, p.Rule.Faults} {
		if len(faults) > 0 {
			return faults[0].Code.HTTPStatus()
		}
	}
	if p.Refused != nil {
		return p.Refused.Code.HTTPStatus()
	}
	return 0
}

// deliveries reads what was sent.
func (s *site) deliveries(ctx context.Context, page *notifyPage, query url.Values) error {
	cursor := query.Get("cursor")
	list, next, err := s.Notify.Deliveries(ctx, page.To, deliveriesPerPage, cursor)
	if err != nil {
		return err
	}
	for _, d := range list {
		row := deliveryRow{page.clock, d}
		page.Sent = append(page.Sent, row)
		if d.ID == query.Get("tested") {
			page.Tested = &row
		}
	}
	if next != "" {
		page.Next = withQuery("/notifications", "target", page.To, "cursor", next)
	}
	if cursor != "" {
		page.First = withQuery("/notifications", "target", page.To)
	}
	return nil
}

// forms fills those that were not sent: empty, or with what is to be changed.
func (p *notifyPage) forms(query url.Values) {
	if p.Target == nil {
		v := &typed{Values: url.Values{}}
		for _, t := range p.Targets {
			if t.Name == query.Get("change-target") {
				v.Set("name", t.Name)
				if t.Disabled {
					v.Set("off", "1")
				}
			}
		}
		p.Target = targetForm(v)
		p.Target.Open = v.Has("name") || len(p.Targets) == 0
	}
	if p.Rule == nil {
		v := &typed{Values: url.Values{}}
		for _, rule := range p.Rules {
			if rule.Name == query.Get("change-rule") {
				v.Values = rule.values()
			}
		}
		p.Rule = ruleForm(v, p.targetNames())
		p.Rule.Open = v.Has("name")
	}
}

func (p *notifyPage) targetNames() []string {
	var names []string
	for _, t := range p.Targets {
		names = append(names, t.Name)
	}
	return names
}

// addressKinds are the choices of what answers at an address.
var addressKinds = []choice{
	{Value: "", Label: "what the address begins with: ntfy, smtp, slack, …"}, {Value: "webhook", Label: "webhook: JSON, with a signature"},
	{Value: "healthchecks", Label: "Healthchecks: pings at start, success and failure"},
}

// targetForm adds or changes a target. Its address and its key are never put into
// it: they are secrets.
func targetForm(v *typed) *notifyForm {
	kinds := append([]choice(nil), addressKinds...)
	return &notifyForm{Scope: "target-", Fields: []field{
		{Name: "name", Label: "Name", Kind: "text", Value: v.text("name"), Needed: true, Help: "One that is there is changed."},
		{Name: "kind", Label: "What answers there", Kind: "select", Choices: labelled(v.Get("kind"), kinds...)},
		{Name: "url", Label: "Address", Kind: "secret", Placeholder: "ntfy://ntfy.sh/TOPIC", Wide: true,
			Help: "Such as `smtp://USER:PASSWORD@mail.example.net:587/?from=…&to=…`, or `https://hooks.example.net/…`. It is never shown again as a whole. Empty: as before."},
		{Name: "secret", Label: "Key of the signature", Kind: "secret", Help: "Of a webhook. Empty: none, or as before."},
		checkField(v, "off", "Send nothing", ""),
	}}
}

// putTarget adds or changes a target.
func (s *site) putTarget(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	v := &typed{Values: r.PostForm, sent: true}
	_, err := s.Notify.PutTarget(r.Context(), fleet.ActorOf(r.Context()), fleet.NewTarget{
		Name: v.text("name"), Kind: v.text("kind"), URL: secret.FromString(v.text("url")), Secret: secret.FromString(v.text("secret")), Disabled: v.checked("off"),
	})
	form := targetForm(v)
	form.Faults, form.Open = faultsOf(err), true
	s.notified(w, r, notifyForms{Target: form}, err, "")
}

// testTarget sends a message, and says what came of it.
func (s *site) testTarget(w http.ResponseWriter, r *http.Request) {
	sent, err := s.Notify.TestTarget(r.Context(), fleet.ActorOf(r.Context()), r.PathValue("target"))
	forms := notifyForms{}
	if err != nil {
		forms.Refused = failures(err)[0]
	}
	s.notified(w, r, forms, err, sent.ID)
}

// notified goes on to the page after a form, or shows what was wrong with it.
func (s *site) notified(w http.ResponseWriter, r *http.Request, forms notifyForms, err error, tested string) {
	if err == nil {
		http.Redirect(w, r, withQuery("/notifications", "tested", tested), http.StatusSeeOther)
		return
	}
	v, broken := s.notifications(r.Context(), url.Values{}, s.commandsFor(r), forms)
	if broken != nil {
		s.faultOf(w, r, broken)
		return
	}
	s.refuse(w, r, failures(err)[0], v)
}

// Placed are the fields, with each fault at its own.
func (f *notifyForm) Placed() []field {
	placeFaults(f.Fields, f.Faults)
	for i := range f.Fields {
		f.Fields[i].Scope = f.Scope
	}
	return f.Fields
}

func (s *site) confirmTarget(r *http.Request) (*confirmation, error) {
	name := r.PathValue("target")
	targets, err := s.Notify.Targets(r.Context())
	if err != nil {
		return nil, wrap("targets", err)
	}
	for _, t := range targets {
		if t.Name == name {
			return &confirmation{
				Title: "Remove the target " + name, Nav: "/alerts", Back: "/notifications", BackTo: "Notifications", Button: "Remove",
				Happens: []string{"Nothing is sent to " + cmp.Or(t.Shown, name) + " any more, and its address is forgotten.", "What was still to be sent to it is dropped."},
				Command: s.commandsFor(r).borgfleet("notify", "target", "remove", name), after: "/notifications",
				do: func(ctx context.Context, by fleet.Actor) error { return s.Notify.RemoveTarget(ctx, by, name) },
			}, nil
		}
	}
	return nil, job.Fail(job.NotFound, "there is no target %q", name).WithHint("See Notifications.")
}

// SetTarget, TestTarget, SetRule and NotifyLog are the same on the command line.
func (p *notifyPage) SetTarget() string { return p.borgfleet("notify", "target", "set", "NAME") }

// TestTarget sends a message.
func (p *notifyPage) TestTarget() string { return p.borgfleet("notify", "target", "test", "NAME") }

// SetRule says which alerts go where.
func (p *notifyPage) SetRule() string {
	names := p.targetNames()
	target := "TARGET"
	if len(names) > 0 {
		target = names[0]
	}
	return p.borgfleet("notify", "rule", "set", "NAME", "--target", target, "--severity", "warning")
}

// NotifyLog prints what was sent.
func (p *notifyPage) NotifyLog() string {
	return p.borgfleet("notify", "log")
}
