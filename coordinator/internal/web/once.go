package web

import (
	"net/http"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// shown is a secret on the one page that ever shows it.
type shown struct {
	Heading string
	About   string // what to do with it
	Value   string
}

// maxSpent bounds how many forms are remembered.
const maxSpent = 4096

// once remembers the forms that made a secret, so that one that is sent again,
// by a reload or a second click, makes no second secret. It forgets the oldest,
// and all when the coordinator ends: then a reload does what it was asked for.
type once struct {
	mu    sync.Mutex
	pages map[string]string // by the form's key: where a repeated one leads
	order []string
}

func newOnce() *once { return &once{pages: map[string]string{}} }

// take reports whether the form with this key is sent for the first time. For
// one that is not it returns the page that it leads to.
func (o *once) take(key, page string) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if leads, spent := o.pages[key]; spent {
		return leads, false
	}
	if len(o.order) == maxSpent {
		delete(o.pages, o.order[0])
		o.order = o.order[1:]
	}
	o.pages[key] = page
	o.order = append(o.order, key)
	return page, true
}

// lead has a repeated form lead to another page than it was taken with.
func (o *once) lead(key, page string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, spent := o.pages[key]; spent {
		o.pages[key] = page
	}
}

// onceKey names a sent form; nobody can spend another person's.
func onceKey(r *http.Request) string {
	return fleet.ActorOf(r.Context()).Name + " " + r.PostForm.Get("key")
}

// firstTime reports whether a form that makes a secret may go on. A repeated
// one is sent to the page that it led to, which no longer shows the secret.
func (s *site) firstTime(w http.ResponseWriter, r *http.Request, page string) bool {
	if r.PostForm.Get("key") == "" { // not from a page
		return true
	}
	page, first := s.once.take(onceKey(r), page)
	if !first {
		http.Redirect(w, r, page, http.StatusSeeOther)
	}
	return first
}
