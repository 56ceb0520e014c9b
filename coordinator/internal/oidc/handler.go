package oidc

import (
	"cmp"
	"context"
	"crypto/cipher"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/redirect"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Path is where signing in begins. The provider sends people back to a path
// below it.
const Path = "/login/oidc"

const callbackPath = Path + "/callback"

// Bounds of what people, and strangers, can have done here.
const (
	exchangesAtOnce = 16
	maxLogged       = 500 // bytes of what a provider answered
)

// Options are what a [Handler] works with. NameClaim, RoleClaim and Now have
// defaults.
type Options struct {
	Issuer           string // the provider's URL, exactly as it calls itself
	ClientID         string
	ClientSecretFile string              // mode 0600; read at each use, so that it can be replaced
	NameClaim        string              // what a person is called here; default preferred_username
	RoleClaim        string              // the person's groups, a list or one; default groups
	Roles            map[string]bus.Role // by group; the strongest counts
	URL              string              // of the pages, as people reach them

	// SignIn takes in whom the provider has authenticated. Faults are
	// *job.Failure if they are not this machine's.
	SignIn func(ctx context.Context, from, name string, role bus.Role) (fleet.Actor, error)
	// StartSession gives a user's browser a session.
	StartSession func(w http.ResponseWriter, r *http.Request, user string) error

	Now    func() time.Time // default time.Now
	Logger hclog.Logger
}

// Handler serves [Path] and what is below it. It is safe for concurrent use.
type Handler struct {
	Options
	home      *url.URL
	seal      cipher.AEAD
	directory *directory
	exchanges chan struct{} // one for each that is under way
	mux       *http.ServeMux
}

// New returns a handler. It asks the provider nothing yet.
func New(options Options) (*Handler, error) {
	options.NameClaim = cmp.Or(options.NameClaim, "preferred_username")
	options.RoleClaim = cmp.Or(options.RoleClaim, "groups")
	if options.Now == nil {
		options.Now = time.Now
	}
	options.Logger = options.Logger.Named("oidc")
	home, err := url.Parse(options.URL)
	if err != nil || home.Host == "" || home.Scheme != "https" && home.Scheme != "http" {
		return nil, fmt.Errorf("sign in with %s: %q is not where people reach the pages", options.Issuer, options.URL)
	}
	home.Host = strings.TrimSuffix(home.Host, map[string]string{"https": ":443", "http": ":80"}[home.Scheme]) // as browsers do
	seal, err := newSeal()
	if err != nil {
		return nil, fmt.Errorf("make the key of sign-ins under way: %w", err)
	}
	h := &Handler{
		Options: options, home: home, seal: seal, mux: http.NewServeMux(),
		directory: newDirectory(&options), exchanges: make(chan struct{}, exchangesAtOnce),
	}
	h.mux.HandleFunc("GET "+Path, h.start)
	h.mux.HandleFunc("GET "+callbackPath, h.callback)
	if _, err := secret.ReadFile(options.ClientSecretFile); err != nil { // may be put right while this runs
		h.Logger.Error("nobody can sign in with the identity provider", "err", err)
	}
	return h, nil
}

// Name is what people know the provider by.
func (h *Handler) Name() string {
	issuer, err := url.Parse(h.Issuer)
	if err != nil || issuer.Hostname() == "" {
		return h.Issuer
	}
	return issuer.Hostname()
}

// ServeHTTP implements http.Handler. Requests must carry whence they came, as
// [fleet.ActorOf] finds it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(w, r)
}

// start sends somebody to the provider.
func (h *Handler) start(w http.ResponseWriter, r *http.Request) {
	next := redirect.Local(r.URL.Query().Get("next"))
	if len(next) > maxNext {
		next = "/"
	}
	if !h.atHome(r) && !r.URL.Query().Has("moved") { // once: a proxy may change the name on the way
		http.Redirect(w, r, h.startURL(url.Values{"moved": {"1"}, "next": {next}}), http.StatusSeeOther)
		return
	}
	provider, err := h.directory.provider(r.Context())
	if err != nil {
		h.refuse(w, r, next, fmt.Errorf("%w: %w", errAway(), err))
		return
	}
	attempt := newAttempt(next, h.Now())
	if err := h.keep(w, r, attempt); err != nil {
		h.refuse(w, r, next, err)
		return
	}
	http.Redirect(w, r, h.authorizeURL(provider, attempt), http.StatusSeeOther)
}

// atHome reports whether a request came to where the provider will send the
// person, as only there the browser shows the cookie again.
func (h *Handler) atHome(r *http.Request) bool {
	return strings.EqualFold(r.Host, h.home.Host) && (r.TLS != nil) == (h.home.Scheme == "https")
}

func (h *Handler) startURL(query url.Values) string {
	return h.home.JoinPath(Path).String() + "?" + query.Encode()
}

// callback takes in whom the provider sends back.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	attempt, ok := h.kept(r)
	if !ok || !attempt.is(query.Get("state")) {
		h.Logger.Debug("an answer to no question", "from", fleet.ActorOf(r.Context()).From)
		h.show(w, "/", job.Fail(job.InvalidRequest, "this sign-in did not begin in this browser, or began too long ago").
			WithHint("begin again; it has to be done within %d minutes", int(attemptLife/time.Minute)))
		return
	}
	h.forget(w, r) // an attempt is good for one answer
	user, err := h.receive(r, attempt, query)
	if err == nil {
		err = h.StartSession(w, r, user)
	}
	if err != nil {
		h.refuse(w, r, attempt.Next, err)
		return
	}
	http.Redirect(w, r, attempt.Next, http.StatusSeeOther)
}

// receive finds out whom the provider's answer is about, and signs them in.
func (h *Handler) receive(r *http.Request, attempt attempt, answer url.Values) (user string, err error) {
	if code := answer.Get("error"); code != "" {
		return "", fmt.Errorf("%w: it said %q, %q", job.Fail(job.NotAllowed, "the identity provider did not let you in").
			WithHint("begin again, or ask who runs it"), code, answer.Get("error_description"))
	}
	select {
	case h.exchanges <- struct{}{}:
		defer func() { <-h.exchanges }()
	default:
		return "", job.Fail(job.TooMany, "too many people are signing in at this moment").WithHint("try again in a few seconds")
	}
	claims, err := h.exchange(r.Context(), attempt, answer.Get("code"))
	if err != nil {
		return "", err
	}
	name, role, err := h.person(claims)
	if err != nil {
		return "", err
	}
	actor, err := h.SignIn(r.Context(), fleet.ActorOf(r.Context()).From, name, role)
	if err != nil {
		return "", fmt.Errorf("sign in %q, %s: %w", name, role, err)
	}
	user, _ = fleet.UserOf(actor.Name)
	return user, nil
}

// refuse logs why somebody was not signed in, and shows what they can do.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, next string, err error) {
	if r.Context().Err() != nil { // they have gone
		return
	}
	failure := job.AsFailure(err)
	if failure.Code == job.Internal {
		failure = job.Fail(job.Internal, "the coordinator cannot sign you in").WithHint("its log has the details")
	}
	h.Logger.Warn("sign-in with the identity provider", "from", fleet.ActorOf(r.Context()).From, "err", cut(err.Error()))
	h.show(w, next, failure)
}

// cut bounds what is logged of text that comes from elsewhere.
func cut(text string) string {
	if len(text) > maxLogged {
		text = text[:maxLogged] + "…"
	}
	return strings.ToValidUTF8(text, "")
}

// errAway is for whoever cannot sign in because the provider is not there.
func errAway() *job.Failure {
	return job.Fail(job.Unavailable, "the identity provider does not answer").
		WithHint("try again later; who has a password can sign in with that")
}
