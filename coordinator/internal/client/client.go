// Package client speaks the coordinator's HTTP API. The command line uses it;
// it knows nothing of how the coordinator works inside.
//
// What the coordinator refuses comes back as a *[job.Failure]: with the code
// not_authenticated when it does not know who asks, and not_allowed when that
// one may not. A coordinator that cannot be reached, or whose certificate is
// not trusted, is an *[UnreachableError], so that a program can tell "no" from
// "nobody there".
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	prefix         = "/api/v1"
	dialTimeout    = 5 * time.Second
	headerTimeout  = 60 * time.Second
	maxAnswerBytes = 64 << 20
	maxErrorBytes  = 1 << 20
)

// Options says which coordinator to speak to, and how.
type Options struct {
	URL   string // of the coordinator, without the API's path: https://backup.example.net:8440
	Token string // sent as a bearer token when not empty
	CA    []byte // certificates, in PEM, of the authorities to trust; empty: the system's

	HTTPClient *http.Client  // nil: one with timeouts for connecting and for the answer's head; CA is for that one only
	RetryWait  time.Duration // first wait before an event stream is opened again; 0 means 500 ms
	IdleLimit  time.Duration // silence after which an event stream counts as lost; 0 means 45 s
}

// Client is a coordinator's API as Go functions. It is safe for concurrent use.
type Client struct {
	base      string
	token     string
	agent     string
	http      *http.Client
	patient   *http.Client // waits for an answer for as long as it takes
	retryWait time.Duration
	idleLimit time.Duration
}

// New returns a client. It does not connect.
func New(options Options) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(options.URL, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, job.Invalid("url", "%q is not the URL of a coordinator", options.URL).
			WithHint("for example http://127.0.0.1:8440; BORGFLEET_URL sets it")
	}
	if base.Scheme == "http" && !bus.IsLoopback(base.Hostname()) {
		return nil, job.Invalid("url", "%s would carry secrets over the network without encryption", options.URL).
			WithHint("use https://%s", base.Host)
	}
	c := &Client{
		base: base.String(), token: options.Token, agent: "borgfleet/" + build.Version,
		http: options.HTTPClient, patient: options.HTTPClient, retryWait: options.RetryWait, idleLimit: options.IdleLimit,
	}
	if c.http == nil {
		transport, err := newTransport(options.CA)
		if err != nil {
			return nil, err
		}
		patient := transport.Clone()
		patient.ResponseHeaderTimeout = 0
		c.http, c.patient = &http.Client{Transport: transport}, &http.Client{Transport: patient}
	}
	if c.retryWait <= 0 {
		c.retryWait = 500 * time.Millisecond
	}
	if c.idleLimit <= 0 {
		c.idleLimit = 45 * time.Second
	}
	return c, nil
}

// URL returns the coordinator's address.
func (c *Client) URL() string { return c.base }

func newTransport(ca []byte) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	t.ResponseHeaderTimeout = headerTimeout
	if len(ca) > 0 {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(ca) {
			return nil, job.Invalid("ca", "holds no certificate in PEM").WithHint("borgfleet login stores the coordinator's own")
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return t, nil
}

// call sends one request and decodes its answer. in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	request, err := c.encode(ctx, method, path, in)
	if err != nil {
		return err
	}
	response, err := c.send(request)
	if err != nil {
		return err
	}
	return c.decode(ctx, response, out)
}

// slowCall is call for what may take minutes, or is a job that is not to be
// waited for.
func (c *Client) slowCall(ctx context.Context, method, path string, in, out any) error {
	request, err := c.encode(ctx, method, path, in)
	if err != nil {
		return err
	}
	request.Header.Set("Prefer", "respond-async")
	response, err := c.sendBy(c.patient, request)
	if err != nil {
		return err
	}
	return c.decode(ctx, response, out)
}

// encode makes a request of what is sent as JSON, if that is not nil.
func (c *Client) encode(ctx context.Context, method, path string, in any) (*http.Request, error) {
	if in == nil {
		return c.request(ctx, method, path, nil)
	}
	data, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return c.request(ctx, method, path, bytes.NewReader(data))
}

// decode reads an answer, if out is not nil, and closes it.
func (c *Client) decode(ctx context.Context, response *http.Response, out any) error {
	defer response.Body.Close() // read to its end, or given up
	if out == nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("decode answer to %s %s: %w", response.Request.Method, response.Request.URL.Path, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+prefix+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", method, path, err)
	}
	request.Header.Set("User-Agent", c.agent)
	request.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return request, nil
}

// send returns an answer that is not an error; its body is the caller's to close.
func (c *Client) send(request *http.Request) (*http.Response, error) {
	return c.sendBy(c.http, request)
}

func (c *Client) sendBy(by *http.Client, request *http.Request) (*http.Response, error) {
	response, err := by.Do(request)
	if err != nil {
		return nil, c.unreachable(request.Context(), err)
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	defer response.Body.Close() // only the error in it matters
	return nil, c.refusal(response)
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &UnreachableError{URL: c.base, Err: err}
}

// refusal reads an RFC 9457 problem document.
func (c *Client) refusal(response *http.Response) error {
	var problem struct {
		Code      job.Code `json:"code"`
		Detail    string   `json:"detail"`
		Hint      string   `json:"hint"`
		Retryable bool     `json:"retryable"`

		Errors []refusedPart `json:"errors"`
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err == nil && kind == "application/problem+json" {
		err = json.NewDecoder(io.LimitReader(response.Body, maxErrorBytes)).Decode(&problem)
	}
	if err != nil || problem.Code == "" {
		return job.Fail(job.Unavailable, "%s answered %s, but not as a borgfleet coordinator does", c.base, response.Status).
			WithHint("check --url or BORGFLEET_URL, and any proxy in between")
	}
	return refusalOf(&job.Failure{Code: problem.Code, Message: problem.Detail, Hint: problem.Hint, Retryable: problem.Retryable}, problem.Errors)
}
