package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// underWay is a call that is under way.
type underWay struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// begin sends a call to the real server and waits until its job is there.
func (s *served) begin(t *testing.T, ctx context.Context, method, path, body string) (job.Job, <-chan underWay) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+borgPath+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	done := make(chan underWay, 1)
	go func() {
		var got underWay
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			defer answer.Body.Close()
			got.status, got.header = answer.StatusCode, answer.Header
			got.body, err = io.ReadAll(answer.Body)
		}
		got.err = err
		done <- got
	}()
	var submitted job.Job
	patience.Until(t, "the call's job is there", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.jobs) == 0 {
			return false
		}
		submitted = s.jobs[0]
		return true
	})
	patience.Until(t, "the call watches its job", func() bool { return s.feed.Watchers() > 0 })
	return submitted, done
}

func receive(t *testing.T, done <-chan underWay) underWay {
	t.Helper()
	select {
	case got := <-done:
		return got
	case <-time.After(30 * time.Second):
		t.Fatal("the call does not end")
		return underWay{}
	}
}

// TestWaitEndsWithTheJob also outlives the limits for reading a request.
func TestWaitEndsWithTheJob(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.BodyTimeout = 50 * time.Millisecond })
	s.put("web1", "main")
	submitted, done := s.begin(t, t.Context(), "POST", "/prune", `{"repository_path":"main"}`)
	running := submitted
	running.State = job.Running
	s.change(running)
	select {
	case got := <-done:
		t.Fatalf("answered %+v before the job's end", got)
	case <-time.After(200 * time.Millisecond): // four times as long as the body may take
	}
	s.change(told(submitted))
	got := receive(t, done)
	if got.err != nil || got.status != http.StatusOK || !strings.Contains(string(got.body), `"success":true`) {
		t.Errorf("%d %s %v", got.status, got.body, got.err)
	}
}

// TestWaitHeedsTheFeed: of some calls one at least is answered long before the
// job would be read again anyway.
func TestWaitHeedsTheFeed(t *testing.T) {
	var fastest time.Duration
	s := borgServed(t, nil)
	for range 5 {
		s.afresh(nil)
		submitted, done := s.begin(t, t.Context(), "GET", "/info?repository_path=main", "")
		began := time.Now()
		s.change(told(submitted))
		receive(t, done)
		if taken := time.Since(began); fastest == 0 || taken < fastest {
			fastest = taken
		}
	}
	if fastest > 300*time.Millisecond {
		t.Errorf("the fastest answer came %s after its job's end", fastest)
	}
}

// TestWaitWithoutNews: a feed that says nothing, or too much, hides no end.
func TestWaitWithoutNews(t *testing.T) {
	s := borgServed(t, nil)
	for what, news := range map[string][]feed.Update{
		"silence": nil, "gaps": {{Type: feed.Missed}}, "others": {{Type: feed.HostSeen, Host: "web1"}, {Type: feed.JobChanged, Job: &job.Job{ID: "01J"}}},
	} {
		t.Run(what, func(t *testing.T) {
			s.afresh(nil)
			submitted, done := s.begin(t, t.Context(), "GET", "/info?repository_path=main", "")
			s.mu.Lock()
			s.jobs[0] = told(submitted)
			s.mu.Unlock()
			for _, update := range news {
				s.feed.Publish(update)
			}
			if got := receive(t, done); got.status != http.StatusOK {
				t.Errorf("%d %s %v", got.status, got.body, got.err)
			}
		})
	}
}

func TestWaitForAMount(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	submitted, done := s.begin(t, t.Context(), "POST", "/mount", `{"repository_path":"main","mount_point":"/restore/mnt"}`)
	starting := told(submitted)
	starting.Progress = nil
	s.change(starting)
	mounted := told(submitted)
	s.mu.Lock()
	s.jobs[0] = mounted
	s.mu.Unlock()
	s.feed.Publish(feed.Update{Type: feed.JobProgress, Job: &job.Job{ID: submitted.ID}, Progress: mounted.Progress})
	if got := receive(t, done); got.status != http.StatusOK || !strings.Contains(string(got.body), `"pid":4711`) {
		t.Errorf("%d %s %v", got.status, got.body, got.err)
	}
}

func TestWaitForAMountThatEndsAtOnce(t *testing.T) {
	s := borgServed(t, func(j job.Job) job.Job { return ended(j, job.Result{}) })
	answer := s.do(request("POST", borgPath+"/mount", `{"repository_path":"main","mount_point":"/restore/mnt"}`))
	if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); answer.Code != http.StatusNotFound || problem.Code != job.NotMounted {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

// TestWaitEndsWithTheCaller: the job goes on, and nobody watches it.
func TestWaitEndsWithTheCaller(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	ctx, cancel := context.WithCancel(t.Context())
	submitted, done := s.begin(t, ctx, "GET", "/info?repository_path=main", "")
	cancel()
	if got := receive(t, done); got.err == nil {
		t.Errorf("answered %d %s", got.status, got.body)
	}
	patience.Until(t, "nobody watches", func() bool { return s.feed.Watchers() == 0 })
	if found, err := s.Job(t.Context(), submitted.ID); err != nil || found.CancelRequested || found.State != job.Queued {
		t.Errorf("the job is %+v, %v", found, err)
	}
}

func TestWaitEndsWithTheServer(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	submitted, done := s.begin(t, t.Context(), "GET", "/info?repository_path=main", "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	got := receive(t, done)
	problem := decode[httpapi.Problem](t, got.body)
	if got.status != http.StatusServiceUnavailable || problem.Code != job.Unavailable || problem.Job != submitted.ID || !problem.Retryable {
		t.Errorf("%d %s %v", got.status, got.body, got.err)
	}
}

func TestPreference(t *testing.T) {
	s := borgServed(t, nil)
	for what, test := range map[string]struct {
		prefer  []string
		status  int
		applied string
	}{
		"none":                 {nil, 200, ""},
		"another":              {[]string{"return=minimal"}, 200, ""},
		"not to wait":          {[]string{"respond-async"}, 202, "respond-async"},
		"in capitals":          {[]string{"Respond-Async"}, 202, "respond-async"},
		"with parameters":      {[]string{"respond-async; a=b, return=minimal"}, 202, "respond-async"},
		"among others":         {[]string{"return=minimal", "handling=lenient, respond-async"}, 202, "respond-async"},
		"not to wait at all":   {[]string{"wait=0"}, 202, "wait=0"},
		"to wait for enough":   {[]string{"respond-async, wait=60"}, 200, ""},
		"to wait for too much": {[]string{"wait=99999999999"}, 200, ""},
		"to wait for nonsense": {[]string{"wait=soon"}, 200, ""},
		"to wait backwards":    {[]string{"wait=-1"}, 200, ""},
		"two limits":           {[]string{"wait=0", "wait=60"}, 202, "wait=0"},
		"a quoted limit":       {[]string{`wait="0"`}, 202, "wait=0"},
	} {
		t.Run(what, func(t *testing.T) {
			s.afresh(nil)
			if test.status == http.StatusOK {
				s.borg.play = told
			}
			r := request("GET", borgPath+"/info?repository_path=main", "")
			for _, value := range test.prefer {
				r.Header.Add("Prefer", value)
			}
			answer := s.do(r)
			if answer.Code != test.status || answer.Header().Get("Preference-Applied") != test.applied {
				t.Fatalf("status %d, applied %q: %s", answer.Code, answer.Header().Get("Preference-Applied"), answer.Body)
			}
			if test.status == http.StatusAccepted {
				id := decode[job.Job](t, answer.Body.Bytes()).ID
				if id != s.jobs[0].ID || answer.Header().Get("Location") != "/api/v1/jobs/"+string(id) || answer.Header().Get("Borgfleet-Job") != string(id) {
					t.Errorf("job %s, header %v", id, answer.Header())
				}
			}
		})
	}
}

// TestPreferenceToWaitALittle: the job is not over in that time.
func TestPreferenceToWaitALittle(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	r := request("GET", borgPath+"/info?repository_path=main", "")
	r.Header.Set("Prefer", "respond-async, wait=1")
	began := time.Now()
	answer := s.do(r)
	if answer.Code != http.StatusAccepted || answer.Header().Get("Preference-Applied") != "respond-async, wait=1" {
		t.Errorf("status %d, %v: %s", answer.Code, answer.Header(), answer.Body)
	}
	if taken := time.Since(began); taken < time.Second {
		t.Errorf("it has waited for %s only", taken)
	}
}
