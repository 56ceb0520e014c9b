package access

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// Bounds of web sessions.
const (
	sessionIdle  = 12 * time.Hour
	sessionLife  = 7 * 24 * time.Hour
	sessionStore = 15 * time.Minute // use of a session is stored this often
	maxSessions  = 50               // of one user; the oldest make room
)

// The cookie's names. Over TLS the browser itself refuses the name's prefix to
// anybody but this very host.
const (
	plainCookie  = "borgfleet_session"
	secureCookie = "__Host-borgfleet_session"
)

// times is what is stored with a session.
type times struct {
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at"`
}

// record makes a session out of its times.
func (t times) record(hash, user string) (store.Session, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return store.Session{}, fmt.Errorf("encode session: %w", err)
	}
	expires := t.SeenAt.Add(sessionIdle)
	if end := t.CreatedAt.Add(sessionLife); end.Before(expires) {
		expires = end
	}
	return store.Session{Hash: hash, User: user, Data: data, ExpiresAt: expires}, nil
}

func timesOf(session store.Session) (t times, err error) {
	if err := json.Unmarshal(session.Data, &t); err != nil {
		return t, fmt.Errorf("read session: %w", err)
	}
	return t, nil
}

// StartSession signs a user in, with a new token: a token that was there
// before, whoever put it there, is worth nothing afterwards. Call it before
// anything is written to w, and only for who has just proved to be the user.
func (s *Service) StartSession(w http.ResponseWriter, r *http.Request, user string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, found, err := s.store.User(user); err != nil || !found {
		return cmp.Or(err, errNoUser(user))
	}
	changes, err := s.makeRoom(user)
	if err != nil {
		return err
	}
	if old, ok := sessionToken(r); ok {
		changes = append(changes, store.DeleteSession(hashOf(old)))
	}
	token, hash := newToken("")
	now := s.now()
	session, err := times{CreatedAt: now, SeenAt: now}.record(hash, user)
	if err != nil {
		return err
	}
	if err := s.apply(append(changes, store.PutSession(session))...); err != nil {
		return fmt.Errorf("store session: %w", err)
	}
	setCookie(w, r, string(token.Reveal()), sessionLife)
	return nil
}

// makeRoom removes sessions that are over, and the oldest of a user who has too
// many.
func (s *Service) makeRoom(user string) (changes []store.Change, err error) {
	sessions, err := s.store.Sessions()
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	slices.SortFunc(sessions, func(a, b store.Session) int { return b.ExpiresAt.Compare(a.ExpiresAt) })
	now, own := s.now(), 0
	for _, session := range sessions {
		if session.User == user {
			own++
		}
		if !now.Before(session.ExpiresAt) || session.User == user && own >= maxSessions {
			changes = append(changes, store.DeleteSession(session.Hash))
		}
	}
	return changes, nil
}

// bySession returns whose session a request belongs to.
func (s *Service) bySession(r *http.Request) (actor fleet.Actor, known bool, err error) {
	token, ok := sessionToken(r)
	if !ok {
		return fleet.Actor{}, false, nil
	}
	session, found, err := s.store.Session(hashOf(token))
	if err != nil {
		return fleet.Actor{}, false, fmt.Errorf("find session: %w", err)
	}
	if !found || !s.now().Before(session.ExpiresAt) {
		return fleet.Actor{}, false, nil
	}
	user, found, err := s.store.User(session.User)
	if err != nil || !found {
		return fleet.Actor{}, false, err
	}
	if err := s.seen(session); err != nil {
		return fleet.Actor{}, false, err
	}
	return fleet.Actor{Name: fleet.Person(user.Name), Role: user.Role}, true, nil
}

// seen prolongs a session that is used, but does not write at each use.
func (s *Service) seen(session store.Session) error {
	t, err := timesOf(session)
	if err != nil || s.now().Sub(t.SeenAt) < sessionStore {
		return err
	}
	if !s.changing.TryLock() {
		return nil // the next request will
	}
	defer s.changing.Unlock()
	if _, still, err := s.store.Session(session.Hash); err != nil || !still { // it may have been ended meanwhile
		return err
	}
	t.SeenAt = s.now()
	if session, err = t.record(session.Hash, session.User); err != nil {
		return err
	}
	s.note("use of a session", store.PutSession(session))
	return nil
}

// EndSession signs out: it ends the token of a login, or the session, that the
// request came with, if there is one.
func (s *Service) EndSession(w http.ResponseWriter, r *http.Request) error {
	if token, ok := bearer(r); ok {
		return s.endToken(origin(r), token)
	}
	setCookie(w, r, "", -time.Second)
	token, ok := sessionToken(r)
	if !ok {
		return nil
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	session, found, err := s.store.Session(hashOf(token))
	if err != nil || !found {
		return err
	}
	by := fleet.Actor{Name: fleet.Person(session.User), From: origin(r)}
	if err := s.apply(store.DeleteSession(session.Hash), s.audit(by, "logout", "user/"+session.User, "")); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// cookieName depends on the connection, as the browser does not take the
// stricter cookie over one without TLS.
func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return secureCookie
	}
	return plainCookie
}

func sessionToken(r *http.Request) (token string, ok bool) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil || cookie.Value == "" {
		return "", false
	}
	return cookie.Value, true
}

// setCookie sets the session's cookie; a negative life removes it.
func setCookie(w http.ResponseWriter, r *http.Request, token string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: token, Path: "/", MaxAge: int(life / time.Second),
		Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	w.Header().Add("Cache-Control", `no-cache="Set-Cookie"`)
}
