package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Pace of the live stream.
const (
	beat      = 250 * time.Millisecond // between two messages: no part changes more than four times a second
	idle      = 10 * time.Second       // a quiet stream says so often that it is alive
	writeTime = 20 * time.Second       // a reader that takes nothing for so long is gone
	restShare = 10                     // reading a page anew waits ten times as long as the last time took
)

// message is one server-sent event: what has changed on the page.
type message struct {
	At        string            `json:"at"`
	Build     string            `json:"build"` // of style sheet and script; when it changes the page loads anew
	Title     string            `json:"title,omitempty"`
	Fragments map[string]string `json:"fragments,omitempty"` // element id → its new content
	Log       *logMessage       `json:"log,omitempty"`
	Reload    bool              `json:"reload,omitempty"` // the page is another one now, for example gone
}

// logMessage appends to the log.
type logMessage struct {
	HTML    string `json:"html"`
	After   int    `json:"after"`
	Attempt int    `json:"attempt"`
}

// live serves the stream of changes to the page at ?path=. It begins with
// everything as it is now, so that a reader who comes back has caught up.
func (s *site) live(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	address, err := url.Parse(query.Get("path"))
	if err != nil {
		http.Error(w, "path is not an address", http.StatusBadRequest)
		return
	}
	build, ok := s.route(address, s.commandsFor(r))
	if !ok {
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	watcher := s.Feed.Watch() // before the first look, so that nothing falls between
	defer watcher.Close()
	stream := &stream{
		site: s, build: build, watcher: watcher, writer: w, control: http.NewResponseController(w),
		sent: map[string]string{}, place: placeOf(query),
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	if err := stream.run(r.Context()); err != nil && r.Context().Err() == nil {
		s.logger.Debug("live stream ended", "path", address.Path, "err", err)
	}
}

func placeOf(query url.Values) logPlace {
	after, _ := strconv.Atoi(query.Get("after"))     // absent or not a number: from the start
	attempt, _ := strconv.Atoi(query.Get("attempt")) // the same
	return logPlace{After: max(after, 0), Attempt: max(attempt, 0)}
}

// stream is one open page.
type stream struct {
	site    *site
	build   builder
	watcher *feed.Watcher
	writer  http.ResponseWriter
	control *http.ResponseController

	view  *view
	title string
	sent  map[string]string // element id → what it shows
	place logPlace

	dirty  bool      // stored state has changed since the view was built
	alarm  bool      // alerts have changed since they were counted
	rested time.Time // the view is not built again before this
	spoken time.Time // when the last message was sent
}

// run tells changes until ctx ends or the reader is gone.
func (s *stream) run(ctx context.Context) error {
	change, err := s.rebuild(ctx)
	for {
		if err != nil {
			return s.end(err)
		}
		if change != nil {
			if err := s.send(*change); err != nil {
				return err
			}
			if err := pause(ctx, beat); err != nil {
				return err
			}
		}
		updates, waitErr := s.wait(ctx)
		if waitErr != nil {
			return waitErr
		}
		change, err = s.digest(ctx, updates)
	}
}

// end has the page loaded anew when what it showed is no longer there. Other
// faults only end the stream: the reader comes back by itself.
func (s *stream) end(err error) error {
	if job.AsFailure(err).Code.HTTPStatus() >= http.StatusInternalServerError {
		return err
	}
	gone := s.message()
	gone.Reload = true
	return errors.Join(err, s.send(gone))
}

// wait returns the next updates, or none when it is time to look or to speak
// without one.
func (s *stream) wait(ctx context.Context) ([]feed.Update, error) {
	limit := idle - time.Since(s.spoken)
	if s.dirty {
		limit = min(limit, time.Until(s.rested))
	}
	if limit <= 0 {
		limit = time.Millisecond
	}
	bounded, done := context.WithTimeout(ctx, limit)
	defer done()
	updates, err := s.watcher.Next(bounded)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return updates, nil
}

// digest turns updates into a message; nil when nothing on the page changes.
func (s *stream) digest(ctx context.Context, updates []feed.Update) (*message, error) {
	moved := map[job.ID]*job.Progress{}
	logged := false
	for _, u := range updates {
		if u.Type == feed.HostSeen {
			continue // nothing to show
		}
		if u.Type == feed.JobProgress && u.Job != nil {
			moved[u.Job.ID] = u.Progress
			continue
		}
		s.alarm = s.alarm || u.Type == feed.AlertChanged || u.Type == feed.Missed
		if s.view.Cares(u) {
			s.dirty = s.dirty || u.Type != feed.JobEvent
			logged = logged || u.Type == feed.JobEvent || u.Type == feed.Missed || s.view.Log != ""
		}
	}
	due := time.Since(s.spoken) >= idle
	if due || (s.dirty && !time.Now().Before(s.rested)) {
		change, err := s.rebuild(ctx)
		if err != nil || due || change.any() {
			return change, err
		}
		return nil, nil
	}
	change := s.message()
	if err := s.progress(&change, moved); err != nil {
		return nil, err
	}
	if err := s.count(ctx, &change); err != nil {
		return nil, err
	}
	if logged {
		if err := s.log(ctx, &change); err != nil {
			return nil, err
		}
	}
	if !change.any() {
		return nil, nil
	}
	return &change, nil
}

func (m *message) any() bool { return m.Title != "" || len(m.Fragments) > 0 || m.Log != nil }

func (s *stream) message() message {
	return message{
		At: s.site.moment().Instant(), Build: s.site.assets.build,
		Fragments: map[string]string{},
	}
}

// rebuild reads the page anew and tells what is different.
func (s *stream) rebuild(ctx context.Context) (*message, error) {
	began := time.Now()
	s.dirty = false
	fresh, err := s.build(ctx)
	if err != nil {
		return nil, err
	}
	s.view = fresh
	change, err := s.whole(ctx)
	took := time.Since(began)
	s.rested = time.Now().Add(max(beat, restShare*took))
	return &change, err
}

// whole tells every live part that differs from what the reader has.
func (s *stream) whole(ctx context.Context) (message, error) {
	change := s.message()
	s.entitle(&change, s.view.Title)
	for _, name := range s.view.Live {
		if err := s.part(&change, name); err != nil {
			return change, err
		}
	}
	s.alarm = true
	if err := s.count(ctx, &change); err != nil {
		return change, err
	}
	return change, s.log(ctx, &change)
}

// count tells how many alerts hold, which the menu shows on every page.
func (s *stream) count(ctx context.Context, change *message) error {
	if !s.alarm || s.site.Alerts == nil {
		return nil
	}
	s.alarm = false
	content, err := s.site.execute("nav-alerts", s.site.menu(ctx).Open)
	if had, ok := s.sent["nav-alerts"]; err != nil || (ok && had == content) {
		return err
	}
	s.sent["nav-alerts"], change.Fragments["nav-alerts"] = content, content
	return nil
}

// progress tells what moved, from the updates alone. The part around it must
// then be told again when the page is next read, whatever it was before.
func (s *stream) progress(change *message, moved map[job.ID]*job.Progress) error {
	if s.view.Progress == nil {
		return nil
	}
	for id, progress := range moved {
		for _, f := range s.view.Progress(id, progress) {
			content, err := s.site.execute(f.Template, f.Data)
			if err != nil {
				return err
			}
			change.Fragments[f.ID] = content
			delete(s.sent, f.Part)
			s.entitle(change, f.Title)
		}
	}
	return nil
}

// entitle tells the page's title, when that is another one now.
func (s *stream) entitle(change *message, title string) {
	if title != "" && title != s.title {
		s.title, change.Title = title, title
	}
}

// part renders a live part into the message, if the reader has not got it so.
func (s *stream) part(change *message, name string) error {
	content, err := s.site.execute(name, s.view.Data)
	if err != nil {
		return err
	}
	if had, ok := s.sent[name]; ok && had == content {
		return nil
	}
	s.sent[name], change.Fragments[name] = content, content
	return nil
}

// log tells the log lines that came since.
func (s *stream) log(ctx context.Context, change *message) error {
	if s.view.Log == "" {
		return nil
	}
	part, err := s.site.readLog(ctx, s.view.Log, s.place)
	if err != nil {
		return wrap("log", err)
	}
	s.place = part.logPlace
	if len(part.Lines) == 0 {
		return nil
	}
	content, err := s.site.execute("log-lines", part)
	if err != nil {
		return err
	}
	change.Log = &logMessage{HTML: content, After: part.After, Attempt: part.Attempt}
	return nil
}

// send writes a message and hands it on at once.
func (s *stream) send(m message) error {
	deadline := time.Now().Add(writeTime)
	if err := s.control.SetWriteDeadline(deadline); err != nil {
		s.site.logger.Trace("no write deadline here", "err", err)
	}
	if _, err := fmt.Fprintf(s.writer, "data: %s\n\n", encode(m)); err != nil {
		return fmt.Errorf("writing live message: %w", err)
	}
	s.spoken = time.Now()
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("writing live message: %w", err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
