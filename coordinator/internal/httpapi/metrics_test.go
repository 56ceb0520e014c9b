package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func runMetrics(t *testing.T, s *served) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.metrics.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	patience.Until(t, "the metrics watch", func() bool { return s.feed.Watchers() == 1 })
}

func scrape(t *testing.T, s *served) string {
	t.Helper()
	answer := s.do(request("GET", "/metrics", ""))
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func endedBackup(id job.ID, host, repository string, ended time.Time) job.Job {
	started := ended.Add(-90 * time.Second)
	return job.Job{
		ID: id, Kind: job.Backup, State: job.Succeeded, Host: host, Repository: repository, StartedAt: &started, FinishedAt: &ended,
		Spec: job.BackupSpec{}, Result: &job.Result{OriginalSize: 1000, CompressedSize: 500, DeduplicatedSize: 50},
	}
}

func TestMetricsTellStateAndHistory(t *testing.T) {
	s := serve(t, nil)
	old := time.Unix(1700000000, 0).UTC()
	s.jobs = append(s.jobs, endedBackup(job.NewID(old), "web1", "other", old))
	s.hosts["web1"] = fleet.HostView{Host: fleet.Host{Name: "web1", Facts: &fleet.Facts{JournalDepth: 3, FreeBytes: 4096}}, Online: true}
	s.hosts["web2"] = fleet.HostView{Host: fleet.Host{Name: "web2"}}
	submitted := submitBackup(t, s)
	s.hosts["web1"] = fleet.HostView{Host: fleet.Host{Name: "web1", Facts: &fleet.Facts{JournalDepth: 3, FreeBytes: 4096}}, Online: true}
	runMetrics(t, s)

	ended := endedBackup(submitted.ID, "web1", "main", old.Add(time.Hour))
	for range 3 { // a repeat counts once
		s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &ended, Host: "web1"})
		s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &job.Job{ID: job.NewID(time.Now()), Kind: job.Check, State: job.Running}})
	}
	failed := job.Job{ID: job.NewID(time.Now()), Kind: job.Check, State: job.Failed}
	s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &failed})
	want := []string{
		`borgfleet_jobs{kind="backup",state="queued"} 1`,
		`borgfleet_jobs{kind="backup",state="running"} 0`,
		`borgfleet_jobs_finished_total{kind="backup",state="succeeded"} 1`,
		`borgfleet_jobs_finished_total{kind="check",state="failed"} 1`,
		`borgfleet_job_duration_seconds_sum{kind="backup"} 90`,
		`borgfleet_job_duration_seconds_count{kind="backup"} 1`,
		`borgfleet_backup_original_bytes_total{host="web1",repository="main"} 1000`,
		`borgfleet_backup_compressed_bytes_total{host="web1",repository="main"} 500`,
		`borgfleet_backup_deduplicated_bytes_total{host="web1",repository="main"} 50`,
		`borgfleet_backup_last_success_timestamp_seconds{host="web1",repository="main"} 1.7000036e+09`,
		`borgfleet_backup_last_success_timestamp_seconds{host="web1",repository="other"} 1.7e+09`,
		`borgfleet_host_up{host="web1"} 1`,
		`borgfleet_host_up{host="web2"} 0`,
		`borgfleet_host_journal_depth{host="web1"} 3`,
		`borgfleet_host_free_bytes{host="web1"} 4096`,
		`borgfleet_snapshot_success 1`,
		`borgfleet_feed_watchers 1`,
		`borgfleet_build_info{`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	}
	patience.Until(t, "the failed job is counted", func() bool { return strings.Contains(scrape(t, s), want[3]) })
	text := scrape(t, s)
	for _, line := range want {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no %s", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "borgfleet") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
	delete(s.hosts, "web1")
	if text := scrape(t, s); strings.Contains(text, "last_success_timestamp_seconds{") || strings.Contains(text, `host_up{host="web1"}`) {
		t.Error("a host that is gone still has series")
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	s := serve(t, nil)
	old := time.Unix(1700000000, 0)
	s.jobs = append(s.jobs, endedBackup(job.NewID(old), "web1", "main", old))
	s.hosts["web1"] = fleet.HostView{Host: fleet.Host{Name: "web1", Facts: &fleet.Facts{}}}
	runMetrics(t, s)
	ended := endedBackup(job.NewID(time.Now()), "web1", "main", time.Now())
	s.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &ended})
	patience.Until(t, "the job is counted", func() bool { return strings.Contains(scrape(t, s), "borgfleet_jobs_finished_total{") })
	problems, err := testutil.GatherAndLint(s.metrics.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestHTTPMetricsHaveBoundedLabels(t *testing.T) {
	s := serve(t, nil)
	for i := range 20 {
		s.do(request("GET", fmt.Sprintf("/api/v1/hosts/web%d", i), ""))
		s.do(request("GET", fmt.Sprintf("/nothing/%d", i), ""))
		s.do(request(fmt.Sprintf("ODD%d", i), "/api/v1/status", ""))
	}
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	text := scrape(t, s)
	for _, line := range []string{
		`borgfleet_http_requests_total{code="404",method="GET",route="/api/v1/hosts/{host}"} 20`,
		`borgfleet_http_requests_total{code="404",method="GET",route="none"} 20`,
		`borgfleet_http_requests_total{code="405",method="other",route="/api/"} 20`,
		`borgfleet_http_event_streams 1`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	_ = stream.response.Body.Close() // the reader leaves
	patience.Until(t, "the stream is counted", func() bool {
		text := scrape(t, s)
		return strings.Contains(text, "borgfleet_http_event_streams 0") && strings.Contains(text, `method="GET",route="/api/v1/events"} 1`)
	})
	if text := scrape(t, s); strings.Contains(text, `duration_seconds_count{method="GET",route="/api/v1/events"}`) {
		t.Error("the duration of a stream is counted as that of a request")
	}
}

func TestScrapeWithoutState(t *testing.T) {
	s := serve(t, nil)
	s.fail = errors.New("store is closed")
	if text := scrape(t, s); !strings.Contains(text, "borgfleet_snapshot_success 0") || strings.Contains(text, "borgfleet_jobs{") {
		t.Error("a scrape without state must say so, and tell the rest")
	}
}

func TestMetricsSayWhenTheyMissed(t *testing.T) {
	s := serve(t, nil)
	runMetrics(t, s)
	s.feed.Publish(feed.Update{Type: feed.Missed})
	patience.Until(t, "the gap is counted", func() bool { return strings.Contains(scrape(t, s), "borgfleet_metrics_gaps_total 1") })
}

func TestMetricsOverARealConnection(t *testing.T) {
	s := serve(t, nil)
	response, err := get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() // read to its end
	data, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Contains(data, []byte("borgfleet_build_info{")) {
		t.Errorf("%v, %d bytes", err, len(data))
	}
}

func TestMetricsOfBusAndCertificate(t *testing.T) {
	b := newBackend()
	metrics := httpapi.NewMetrics(httpapi.MetricsOptions{
		Snapshot: b, Feed: b.feed, Logger: hclog.NewNullLogger(),
		Refusals: func() map[string]uint64 { return map[string]uint64{"publish": 3, "authentication": 0} },
		Expiry:   func() time.Time { return time.Unix(1700000000, 0) },
	})
	s := serve(t, func(o *httpapi.Options) { o.Metrics = metrics })
	text := scrape(t, s)
	for _, line := range []string{
		`borgfleet_bus_refusals_total{kind="publish"} 3`, `borgfleet_bus_refusals_total{kind="authentication"} 0`,
		`borgfleet_certificate_expiry_timestamp_seconds 1.7e+09`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	problems, err := testutil.GatherAndLint(metrics.Gatherer())
	if err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if text := scrape(t, serve(t, nil)); strings.Contains(text, "refusals") || strings.Contains(text, "certificate") {
		t.Error("what is not known is told")
	}
}
