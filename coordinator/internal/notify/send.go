package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/oklog/ulid/v2"
)

const (
	sendLimit = 15 * time.Second // that one try may take
	// maxHanging bounds the tries of one target that did not end in time and still
	// hang: what the library has begun cannot be stopped.
	maxHanging = 4
	maxAnswer  = 4096 // bytes of an answer that are looked at
	maxBody    = 10_000
)

// SignatureHeader carries the time and the signature of a webhook's body.
const SignatureHeader = "Borgfleet-Signature"

// newClient returns a client that goes nowhere a link-local address is, whatever
// a name stands for, and follows nobody elsewhere.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: sendLimit, Control: func(_, address string, _ syscall.RawConn) error {
		place, err := netip.ParseAddrPort(address)
		if err == nil && forbidden(place.Addr()) {
			err = errForbidden(place.Addr())
		}
		return err
	}}
	return &http.Client{
		Timeout:       sendLimit,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send tries once to send a message, for at most [sendLimit]. The error is for
// people, and holds nothing secret.
func (s *Service) send(ctx context.Context, t *target, d store.Delivery, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	address, err := s.secret(store.TargetSecret(d.Target))
	if err != nil {
		return fmt.Errorf("its address cannot be read: %w", err)
	}
	s.mu.Lock()
	p := place{kind: t.record.Kind}
	s.mu.Unlock()
	if p.url, err = url.Parse(strings.TrimSpace(string(address.Reveal()))); err != nil || address.Empty() {
		return errors.New("its address is not stored")
	}
	switch p.kind {
	case kindWebhook:
		err = s.sendWebhook(ctx, p, d, m)
	case kindHealthchecks:
		err = s.ping(ctx, p, m)
	default:
		err = t.sendService(ctx, p, m)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", sendLimit)
	}
	return errors.New(shorten(strings.Join(strings.Fields(p.scrub(err.Error())), " "), 400))
}

// shorten cuts a text that is too long.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// envelope is what a webhook gets.
type envelope struct {
	Version int       `json:"version"`
	ID      string    `json:"id"` // of the delivery: the same when it is tried again
	SentAt  time.Time `json:"sent_at"`
	Target  string    `json:"target"`
	Rule    string    `json:"rule"`
	Message
}

func (s *Service) sendWebhook(ctx context.Context, p place, d store.Delivery, m Message) error {
	now := s.options.Now().UTC()
	body, err := json.Marshal(envelope{Version: 1, ID: d.ID, SentAt: now, Target: d.Target, Rule: d.Rule, Message: m})
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "Borgfleet-Delivery": {d.ID}}
	key, err := s.secret(store.TargetKey(d.Target))
	if err != nil {
		return fmt.Errorf("its key cannot be read: %w", err)
	}
	if !key.Empty() {
		header.Set(SignatureHeader, Sign(key, now, body))
	}
	return post(ctx, s.client, p.url.String(), header, body)
}

// Sign returns the value of [SignatureHeader]: the time in seconds since 1970, and
// the HMAC-SHA256 over that time, a dot and the body, in hex.
func Sign(key secret.Value, at time.Time, body []byte) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key.Reveal())
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// ping tells a Healthchecks check how a run stands; everything else goes into its
// log. In the address {plan} stands for the plan.
func (s *Service) ping(ctx context.Context, p place, m Message) error {
	to := *p.url
	plan, signal, run := "", "/log", ""
	if len(m.Runs) == 1 {
		plan, signal, run = m.Runs[0].Plan, signalOf(m.Runs[0]), m.Runs[0].ID
	}
	if strings.Contains(to.Path, "{plan}") {
		if plan == "" && len(m.Alerts) > 0 {
			plan = m.Alerts[0].Plan
		}
		if plan == "" {
			return nil // there is no check for what is about no plan
		}
		to.Path = strings.ReplaceAll(to.Path, "{plan}", plan)
	}
	to.Path = strings.TrimSuffix(to.Path, "/") + signal
	to.RawPath = ""
	if id, err := ulid.ParseStrict(run); err == nil {
		query := to.Query()
		query.Set("rid", fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]))
		to.RawQuery = query.Encode()
	}
	body := []byte(m.Text)
	return post(ctx, s.client, to.String(), http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, body[:min(len(body), maxBody)])
}

// signalOf returns what Healthchecks is told of a run.
func signalOf(run fleet.Run) string {
	switch run.State {
	case fleet.RunRunning:
		return "/start"
	case fleet.RunSucceeded, fleet.RunWarning:
		return ""
	case fleet.RunFailed, fleet.RunMissed:
		return "/fail"
	default:
		return "/log"
	}
}

// post sends a body, and wants an answer that it was taken.
func post(ctx context.Context, client *http.Client, to string, header http.Header, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = header
	request.Header.Set("User-Agent", "borgfleet/"+build.Version)
	answer, err := client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the address
		}
		return err
	}
	defer answer.Body.Close() // what is left of it does not matter
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("answered %s%s", answer.Status, firstLine(text))
	}
	return nil
}

// firstLine returns the beginning of an answer, if it is text.
func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(strings.ToValidUTF8(string(text), "")), "\n")
	if line == "" || strings.HasPrefix(line, "<") {
		return ""
	}
	return ": " + shorten(line, 200)
}

// sendService sends by the library, which cannot be interrupted: what hangs is
// left behind, but not too often.
func (t *target) sendService(ctx context.Context, p place, m Message) error {
	if t.hanging.Add(1) > maxHanging {
		t.hanging.Add(-1)
		return fmt.Errorf("%d earlier tries have not ended yet", maxHanging)
	}
	done := make(chan error, 1)
	go func() {
		defer t.hanging.Add(-1)
		done <- p.deliver(ctx, m)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deliver looks where the address leads, and hands a message to the library.
func (p place) deliver(ctx context.Context, m Message) error {
	if p.shown() != p.url.Scheme+"://…" { // others go to their service's own host
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.url.Hostname())
		if err != nil {
			return fmt.Errorf("look up its host: %w", err)
		}
		for _, ip := range addresses {
			if forbidden(ip) {
				return errForbidden(ip)
			}
		}
	}
	service, err := p.service()
	if err != nil {
		return err
	}
	params := types.Params{}
	params.SetTitle(m.Subject)
	return service.Send(m.Text, &params)
}
