package web_test

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Secrets that the world gives out.
const (
	linkToken   = "bfl_SECRET-LINK"
	apiToken    = "bft_SECRET-TOKEN"
	credentials = "-----BEGIN NATS USER JWT-----\nSECRET-CREDENTIALS\n------END NATS USER JWT------\n"
	enrolLine   = "borgfleet-agent enroll --url tls://backup.example.net:4222 --token BF1SECRET-ENROL"
)

var admin = fleet.Actor{Name: "operator:alice", Role: bus.Admin, From: "http 10.0.0.7"}

// people is the part of the world that knows who may do what.
type people struct {
	reader  *fleet.Actor // nil: admin
	oidc    string
	users   []fleet.User
	tokens  []fleet.APIToken
	creds   []fleet.NATSCredentials
	entries []fleet.AuditEntry // newest first
	proof   fleet.AuditProof
	link    string // that works
	linkFor string
	did     []string // what was asked for, in order
	denied  error    // what signing in answers, when set
}

// authenticated puts the reader into each request, as the server around the
// handler does.
func (w *world) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		reader := admin
		if w.reader != nil {
			reader = *w.reader
		}
		if r.URL.Path == "/login" || strings.HasPrefix(r.URL.Path, "/setup/") {
			reader = fleet.Actor{From: "http 10.0.0.7"}
		}
		next.ServeHTTP(answer, r.WithContext(fleet.WithActor(r.Context(), reader)))
	})
}

// as is the world as somebody of another role sees it.
func (w *world) as(role bus.Role) *world {
	w.reader = &fleet.Actor{Name: "operator:" + string(role), Role: role, From: "http 192.0.2.1"}
	if role == "" {
		w.reader.Name = ""
	}
	return w
}

// note records a change, or refuses it.
func (w *world) note(what ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse == nil {
		w.did = append(w.did, strings.Join(what, " "))
	}
	return w.refuse
}

func (w *world) Login(_ context.Context, from, name string, password secret.Value) (fleet.Actor, error) {
	if w.denied != nil {
		return fleet.Actor{}, w.denied
	}
	if name != "alice" || string(password.Reveal()) != "correct horse" {
		return fleet.Actor{}, job.Fail(job.NotAuthenticated, "the name or the password is wrong")
	}
	return fleet.Actor{Name: "operator:alice", Role: bus.Admin}, w.note("login", name, from)
}

func (w *world) StartSession(answer http.ResponseWriter, _ *http.Request, user string) error {
	http.SetCookie(answer, &http.Cookie{Name: "session", Value: user})
	return nil
}

func (w *world) EndSession(http.ResponseWriter, *http.Request) error { return w.note("logout") }

func (w *world) LinkUser(_ context.Context, token string) (string, bus.Role, error) {
	if w.link == "" || token != w.link {
		return "", "", job.Fail(job.NotFound, "this link was used already, or is over")
	}
	return w.linkFor, bus.Admin, nil
}

func (w *world) UseLink(ctx context.Context, from, token, name string, password secret.Value) (fleet.User, error) {
	if _, _, err := w.LinkUser(ctx, token); err != nil {
		return fleet.User{}, err
	}
	if len(password.Reveal()) < 8 {
		return fleet.User{}, job.Invalid("password", "is too short").WithHint("at least 8 characters")
	}
	w.link = ""
	return fleet.User{Name: name}, w.note("setup", name, from)
}

func (w *world) Users(context.Context) ([]fleet.User, error) { return w.users, w.broken }

func (w *world) AddUser(_ context.Context, _ fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error) {
	err := w.note("add user", name, string(role))
	return fleet.User{Name: name, Role: role}, secret.FromString(linkToken), w.now.Add(48 * time.Hour), err
}

func (w *world) SetRole(_ context.Context, _ fleet.Actor, name string, role bus.Role) (fleet.User, error) {
	return fleet.User{Name: name, Role: role}, w.note("role", name, string(role))
}

func (w *world) NewLink(_ context.Context, _ fleet.Actor, name string) (secret.Value, time.Time, error) {
	return secret.FromString(linkToken), w.now.Add(48 * time.Hour), w.note("link", name)
}

func (w *world) RemoveUser(_ context.Context, _ fleet.Actor, name string) error {
	return w.note("remove user", name)
}

func (w *world) Tokens(context.Context) ([]fleet.APIToken, error) { return w.tokens, w.broken }

func (w *world) AddToken(_ context.Context, _ fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error) {
	err := w.note("add token", asked.Name, string(asked.Role), asked.Lifetime.String())
	return fleet.APIToken{Name: asked.Name, ExpiresAt: w.now.Add(asked.Lifetime)}, secret.FromString(apiToken), err
}

func (w *world) RemoveToken(_ context.Context, _ fleet.Actor, id string) error {
	return w.note("remove token", id)
}

func (w *world) Credentials(context.Context) ([]fleet.NATSCredentials, error) {
	return w.creds, w.broken
}

func (w *world) MintCredentials(_ context.Context, _ fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error) {
	return fleet.NATSCredentials{Name: name, Role: role}, secret.FromString(credentials), w.note("mint", name, string(role))
}

func (w *world) RevokeCredentials(_ context.Context, _ fleet.Actor, name string) error {
	return w.note("revoke", name)
}

func (w *world) EnrolmentToken(_ context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	words := []string{"token for", asked.Host, asked.Lifetime.String()}
	if asked.Replace {
		words = append(words, "replace")
	}
	if asked.Host == "Web" {
		return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, job.Invalid("host", "%q cannot be a name", asked.Host)
	}
	token := fleet.EnrolmentToken{Host: asked.Host, CreatedAt: w.now, CreatedBy: by.Name, ExpiresAt: w.now.Add(asked.Lifetime)}
	return token, fleet.EnrolmentCommand{Command: enrolLine}, w.note(words...)
}

func (w *world) RemoveHost(_ context.Context, _ fleet.Actor, name string) error {
	return w.note("remove host", name)
}

func (w *world) Audit(_ context.Context, f fleet.AuditFilter) (fleet.AuditPage, error) {
	page := fleet.AuditPage{}
	for _, e := range w.entries {
		if (f.By != "" && e.By != f.By) || (f.Object != "" && e.Object != f.Object) || (f.Before > 0 && e.Number >= f.Before) ||
			(f.Action != e.Action && !(strings.HasSuffix(f.Action, ".") && strings.HasPrefix(e.Action, f.Action)) && f.Action != "") {
			continue
		}
		if len(page.Entries) == f.Limit {
			page.Before = page.Entries[f.Limit-1].Number
			break
		}
		page.Entries = append(page.Entries, e)
	}
	return page, w.broken
}

func (w *world) VerifyAudit(context.Context) (fleet.AuditProof, error) { return w.proof, w.broken }

// somebody is a world's people: one of each sort.
func somebody() people {
	p := people{
		users: []fleet.User{
			{Name: "alice", Role: bus.Admin, CreatedAt: noon.AddDate(0, -3, 0), CreatedBy: "operator:alice", HasPassword: true, LastLogin: pointer(noon.Add(-time.Hour))},
			{Name: "bob", Role: bus.Operator, CreatedAt: noon.AddDate(0, -1, 0), CreatedBy: "operator:alice", HasPassword: true},
			{Name: "carol", Role: bus.Viewer, CreatedAt: noon.AddDate(0, 0, -1), CreatedBy: "operator:alice"},
		},
		tokens: []fleet.APIToken{
			{ID: "T1", Name: "ci", Role: bus.Operator, CreatedAt: noon.AddDate(0, -1, 0), CreatedBy: "operator:alice", ExpiresAt: noon.AddDate(0, 2, 0), LastUsed: pointer(noon.Add(-time.Minute))},
			{ID: "T2", Name: "bob's laptop", Role: bus.Operator, User: "bob", CreatedAt: noon.AddDate(0, -4, 0), CreatedBy: "operator:bob", ExpiresAt: noon.Add(-time.Hour)},
		},
		creds: []fleet.NATSCredentials{
			{Name: "eve", Role: bus.Viewer, PublicKey: "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", CreatedAt: noon.AddDate(0, -1, 0), CreatedBy: "operator:alice"},
			{Name: "old", Role: bus.Viewer, PublicKey: "UCNF4", CreatedAt: noon.AddDate(0, -2, 0), CreatedBy: "operator:alice", RevokedAt: pointer(noon.AddDate(0, -1, 0))},
		},
		proof: fleet.AuditProof{Entries: 4711, Head: strings.Repeat("5e", 32), Intact: true, Message: "4711 entries, each follows from the one before"},
	}
	for n, e := range []fleet.AuditEntry{
		{By: "operator:alice", From: "http 10.0.0.7", Action: "host.add", Object: "host/web1", Outcome: "done"},
		{By: "operator:bob", From: "bus 10.0.0.9", Action: "borg.archive.create", Object: "job/" + string(goodBackup), Outcome: "requested"},
		{By: "operator:bob", From: "bus 10.0.0.9", Action: "borg.archive.create", Object: "job/" + string(goodBackup), Outcome: "succeeded", Detail: "web1-main"},
		{By: "operator:carol", From: "http 10.0.0.8", Action: "host.remove", Object: "host/web1", Outcome: "refused", Detail: "3 times: needs the role admin"},
		{By: "operator:bob", Action: "borg.repository.check", Object: "repository/nas", Outcome: "failed"},
		{By: "operator:alice", From: "http 10.0.0.7", Action: "user.add", Object: "user/carol", Outcome: "done"},
	} {
		e.Number, e.At, e.Hash = uint64(n+1), noon.Add(time.Duration(n-10)*time.Hour), strings.Repeat("a1", 32)
		p.entries = append([]fleet.AuditEntry{e}, p.entries...)
	}
	return p
}

func (w *world) ChangePassword(_ context.Context, by fleet.Actor, old, fresh secret.Value) error {
	if w.denied != nil {
		return w.denied
	}
	if string(old.Reveal()) != "correct horse" {
		return job.Invalid("old_password", "is wrong").WithHint("an admin can make a link for a new password")
	}
	if len(fresh.Reveal()) < 8 {
		return job.Invalid("password", "is too short").WithHint("at least 8 characters")
	}
	return w.note("password of", by.Name, by.From)
}
