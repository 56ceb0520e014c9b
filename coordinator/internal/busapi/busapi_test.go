package busapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/borgfleet/borgfleet/coordinator/internal/busapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func httpStatus(code job.Code) string { return strconv.Itoa(code.HTTPStatus()) }

func host(name string) fleet.HostView {
	return fleet.HostView{Host: fleet.Host{Name: name}, Online: true}
}

func TestEveryRequestOfTheContract(t *testing.T) {
	c := &coordinator{hosts: []fleet.HostView{host("web1")}}
	operator, _ := serve(t, c)
	var submitted busapi.JobReply
	submit := `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc"]}}`
	if failure := request(t, operator, bus.JobsSubmit, submit, &submitted); failure != nil {
		t.Fatal(failure)
	}
	if submitted.Job.Host != "web1" || submitted.Job.State != job.Queued || submitted.Job.Spec.Kind() != job.Backup {
		t.Errorf("submitted %+v", submitted.Job)
	}
	byID := fmt.Sprintf(`{"id":%q}`, submitted.Job.ID)
	for _, test := range []struct{ subject, body, want string }{
		{bus.JobsGet, byID, `"id":"` + string(submitted.Job.ID)},
		{bus.JobsList, `{"limit":5}`, `"id":"` + string(submitted.Job.ID)},
		{bus.JobsList, ``, `"cursor":""`},
		{bus.JobsCancel, byID, `{"job":{`},
		{bus.JobsRetry, byID, `{"job":{`},
		{bus.JobsLog, byID, `"text":"A /etc/passwd"`},
		{bus.HostsList, `{}`, `{"hosts":[{"name":"web1"`},
		{bus.HostsGet, `{"name":"web1"}`, `{"host":{"name":"web1"`},
		{bus.RepositoriesList, ``, `{"repositories":[{"name":"main"`},
		{bus.RepositoriesGet, `{"name":"main"}`, `{"repository":{"name":"main"`},
		{bus.StatusSubject, ``, `"summary":"All is well"`},
		{bus.ArchivesList, `{"repository":"main","host":"web1"}`, `"name":"a2","id":"","start":"0001-01-01T00:00:00Z","repository":"","host":"web1"`},
		{bus.ArchivesList, `{"repository":"main"}`, `"listed_at":"1970-01-01T00:00:01Z"}],"total":2`},
		{bus.ArchivesFiles, `{"repository":"main","archive":"a1","path":"etc","limit":1}`, `"path":"etc"`},
		{bus.ArchivesFind, `{"name":"hosts"}`, `"name":"hosts"`},
		{bus.PlansList, `{"limit":1}`, `{"plans":[{"name":"daily"`},
		{bus.PlansGet, `{"name":"daily"}`, `{"plan":{"name":"daily"`},
		{bus.PlansRun, `{"name":"daily","hosts":["web1"]}`, `{"run":{"id":"01R"`},
		{bus.ArchivesHistory, `{"repository":"main","path":"etc/hosts"}`, `"path":"etc/hosts","versions":null,"not_listed":7`},
	} {
		var reply json.RawMessage
		if failure := request(t, operator, test.subject, test.body, &reply); failure != nil {
			t.Errorf("%s: %v", test.subject, failure)
		}
		if !strings.Contains(string(reply), test.want) {
			t.Errorf("%s answers %s, without %s", test.subject, reply, test.want)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want := []string{"operator:alice backup web1", "operator:alice cancel", "operator:alice retry"}
	if !slices.Equal(c.submitted, want) {
		t.Errorf("done: %q, want %q", c.submitted, want)
	}
}

func TestBadRequestsGetOneClearFailure(t *testing.T) {
	c := &coordinator{broken: errors.New("disk\nfull")}
	operator, _ := serve(t, c)
	for name, test := range map[string]struct {
		subject, body, message string
		code                   job.Code
	}{
		"malformed":          {bus.JobsSubmit, `{"host"`, "malformed JSON", job.InvalidRequest},
		"unknown field":      {bus.JobsSubmit, `{"hots":"web1"}`, `unknown field "hots"`, job.InvalidRequest},
		"two values":         {bus.JobsGet, `{} {}`, "more than one value", job.InvalidRequest},
		"wrong type":         {bus.JobsList, `{"limit":"many"}`, "limit", job.InvalidRequest},
		"unknown state":      {bus.JobsList, `{"state":"done"}`, `"done" is not a job state`, job.InvalidRequest},
		"unknown kind":       {bus.JobsSubmit, `{"kind":"burn"}`, "burn", job.UnknownKind},
		"relative path":      {bus.JobsSubmit, `{"kind":"backup","spec":{"paths":["etc"]}}`, "relative", job.InvalidSpec},
		"no id":              {bus.JobsGet, ``, "is not a job id", job.InvalidRequest},
		"no id for the log":  {bus.JobsLog, `{"after":1}`, "is not a job id", job.InvalidRequest},
		"unknown job":        {bus.JobsCancel, `{"id":"01JD9X7Q2M4T6W8Y0ABCDEFGHJ"}`, "there is no job", job.UnknownJob},
		"unknown host":       {bus.HostsGet, `{"name":"web9"}`, "web9", job.UnknownHost},
		"limit too high":     {bus.HostsList, `{"limit":100000}`, "limit", job.InvalidRequest},
		"unknown repo":       {bus.RepositoriesGet, `{"name":"x"}`, "there is no repository", job.UnknownRepository},
		"too large":          {bus.JobsSubmit, strings.Repeat(" ", 600<<10), "at most 524288", job.TooLarge},
		"unknown plan":       {bus.PlansRun, `{"name":"weekly"}`, "there is no plan", job.UnknownPlan},
		"unknown plan's run": {bus.JobsSubmit, `{"plan":"weekly"}`, "there is no plan", job.UnknownPlan},
		"not listed":         {bus.ArchivesFiles, `{"repository":"main","archive":"a9"}`, "not listed", job.NotListed},
		"archives of none":   {bus.ArchivesList, `{"repository":"x"}`, "there is no repository", job.UnknownRepository},
		"own fault":          {bus.StatusSubject, ``, "disk\nfull", job.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			failure := request(t, operator, test.subject, test.body, new(json.RawMessage))
			if failure == nil || failure.Code != test.code || !strings.Contains(failure.Message, test.message) {
				t.Errorf("failure %#v, want %s with %q", failure, test.code, test.message)
			}
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.jobs) != 0 {
		t.Errorf("jobs were made: %v", c.jobs)
	}
}

func TestARequestOverTheBussLimitIsRefusedByTheBus(t *testing.T) {
	operator, _ := serve(t, &coordinator{})
	if _, err := operator.Request(bus.JobsSubmit, make([]byte, 10<<20), patience); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("10 MB: %v", err)
	}
}

func TestAnAnswerReachesNothingButTheAccountOfOperators(t *testing.T) {
	c := &coordinator{}
	operator, _, b := serveOn(t, c)
	private, err := b.API().SubscribeSync(bus.PrivateInbox("api") + ".x")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.API().FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{private.Subject, "$JS.API.STREAM.DELETE." + bus.StreamName, bus.JobsSubmit, ""} {
		if err := operator.PublishMsg(&nats.Msg{Subject: bus.StatusSubject, Reply: reply}); err != nil {
			t.Fatal(err)
		}
	}
	request(t, operator, bus.StatusSubject, "", new(json.RawMessage))
	if n, _, err := private.Pending(); err != nil || n != 0 {
		t.Errorf("%d answers went into the coordinator's own inbox (%v)", n, err)
	}
	if err := b.Healthy(); err != nil { // it looks for the stream
		t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.submitted) != 0 {
		t.Errorf("an answer was taken for a request: %v", c.submitted)
	}
}

func TestASlowRequestHoldsUpNoOther(t *testing.T) {
	c := &coordinator{hold: make(chan struct{})}
	operator, _ := serve(t, c)
	slow, err := operator.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := operator.PublishRequest(bus.JobsGet, slow.Subject, []byte(`{"id":"01JD9X7Q2M4T6W8Y0ABCDEFGHJ"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if failure := request(t, operator, bus.JobsGet, `{"id":"x"}`, new(json.RawMessage)); failure.Code != job.InvalidRequest {
		t.Errorf("failure %v", failure)
	}
	close(c.hold)
	for range 10 {
		if _, err := slow.NextMsg(patience); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListsThatDoNotFitAMessageArePaged(t *testing.T) {
	c := &coordinator{}
	pad := strings.Repeat("x", 8<<10)
	for i := range 300 {
		h := host(fmt.Sprintf("host-%04d", 299-i))
		h.Labels = map[string]string{"pad": pad}
		c.hosts = append(c.hosts, h)
		c.jobs = append(c.jobs, job.Job{ID: job.NewID(time.UnixMilli(int64(1000 - i))), Kind: job.List, Spec: job.ListSpec{}, Reason: pad})
	}
	operator, _ := serve(t, c)
	var hosts []string
	for cursor := "-"; cursor != ""; {
		var page busapi.HostsReply
		body, _ := json.Marshal(busapi.PageRequest{Limit: 200, Cursor: strings.TrimPrefix(cursor, "-")})
		if failure := request(t, operator, bus.HostsList, string(body), &page); failure != nil {
			t.Fatal(failure)
		}
		for _, h := range page.Hosts {
			hosts = append(hosts, h.Name)
		}
		cursor = page.Cursor
	}
	if len(hosts) != 300 || !slices.IsSorted(hosts) {
		t.Errorf("%d hosts, sorted %v", len(hosts), slices.IsSorted(hosts))
	}
	var jobs []job.ID
	for cursor := "-"; cursor != ""; {
		var page job.Page
		body, _ := json.Marshal(job.Filter{Limit: 250, Cursor: strings.TrimPrefix(cursor, "-")})
		if failure := request(t, operator, bus.JobsList, string(body), &page); failure != nil {
			t.Fatal(failure)
		}
		for _, j := range page.Jobs {
			jobs = append(jobs, j.ID)
		}
		cursor = page.Cursor
	}
	if len(slices.Compact(jobs)) != 300 {
		t.Errorf("%d different jobs", len(jobs))
	}
}

func TestAnAnswerThatFitsNoMessageIsAFailure(t *testing.T) {
	c := &coordinator{hosts: []fleet.HostView{host("web1")}}
	c.hosts[0].Labels = map[string]string{"pad": strings.Repeat("x", 2<<20)}
	operator, _ := serve(t, c)
	if failure := request(t, operator, bus.HostsGet, `{"name":"web1"}`, new(json.RawMessage)); failure == nil || failure.Code != job.TooLarge {
		t.Errorf("failure %v", failure)
	}
}

func TestTheMicroServiceDescribesItself(t *testing.T) {
	operator, _ := serve(t, &coordinator{})
	request(t, operator, bus.JobsGet, `{`, new(json.RawMessage))
	var info micro.Info
	request(t, operator, "$SRV.INFO.borgfleet", "", &info)
	if info.Name != "borgfleet" || len(info.Endpoints) != 18 {
		t.Fatalf("info %+v", info)
	}
	for _, e := range info.Endpoints {
		if e.QueueGroup != "coordinators" {
			t.Errorf("%s is in queue group %q", e.Subject, e.QueueGroup)
		}
		for _, key := range []string{"request_schema", "response_schema"} {
			if !json.Valid([]byte(e.Metadata[key])) {
				t.Errorf("%s of %s: %q", key, e.Subject, e.Metadata[key])
			}
		}
	}
	submit := info.Endpoints[0]
	if submit.Subject != bus.JobsSubmit || !strings.Contains(submit.Metadata["request_schema"], `"idempotency_key":{"type":"string"}`) {
		t.Errorf("first endpoint %+v", submit)
	}
	var stats micro.Stats
	request(t, operator, "$SRV.STATS.borgfleet", "", &stats)
	for _, e := range stats.Endpoints {
		want := `{"refused":0}`
		if e.Subject == bus.JobsGet {
			want = `{"refused":1}`
		}
		if string(e.Data) != want {
			t.Errorf("stats of %s: %s, want %s", e.Subject, e.Data, want)
		}
	}
	var ping micro.Ping
	request(t, operator, "$SRV.PING", "", &ping)
	if ping.Name != "borgfleet" {
		t.Errorf("ping %+v", ping)
	}
}

func TestChangesArePublished(t *testing.T) {
	c := &coordinator{hosts: []fleet.HostView{host("web1")}}
	operator, changes := serve(t, c)
	watch, err := operator.SubscribeSync("borgfleet.v1.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	id := job.NewID(time.Now())
	changes.Publish(feed.Update{Type: feed.JobChanged, Host: "web1", Job: &job.Job{ID: id}})
	changes.Publish(feed.Update{Type: feed.JobEvent, Host: "web1", Event: &job.Event{Job: id, Host: "web1", Attempt: 2, Seq: 4, Type: job.EventStarted}})
	changes.Publish(feed.Update{Type: feed.JobProgress, Host: "web1", Job: &job.Job{ID: id, Attempt: 2}, Progress: &job.Progress{NFiles: 7}})
	changes.Publish(feed.Update{Type: feed.HostChanged, Host: "gone"})
	changes.Publish(feed.Update{Type: feed.HostSeen, Host: "web1"})
	for _, want := range []struct{ subject, text string }{
		{bus.PublicEvent("web1", id), `"type":"started"`},
		{bus.PublicProgress("web1", id), `"attempt":2,"phase":"","nfiles":7`},
		{bus.PublicHeartbeat("web1"), `"online":true`},
	} {
		message, err := watch.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if message.Subject != want.subject || !strings.Contains(string(message.Data), want.text) {
			t.Errorf("published on %s: %s; want %s with %s", message.Subject, message.Data, want.subject, want.text)
		}
	}
}

// What the coordinator does itself says for which host.
func TestJobSaysForWhichHostItIs(t *testing.T) {
	c := &coordinator{jobs: []job.Job{{ID: job.NewID(time.Unix(1, 0)), Kind: job.Prune, Host: fleet.LocalHost, For: "web1", Repository: "vault", State: job.Queued, Spec: job.PruneSpec{KeepDaily: 7}}}}
	operator, _ := serve(t, c)
	var reply json.RawMessage
	if failure := request(t, operator, bus.JobsList, `{}`, &reply); failure != nil {
		t.Fatal(failure)
	}
	if !strings.Contains(string(reply), `"host":"coordinator","repository":"vault","for":"web1"`) {
		t.Errorf("the list does not say for which host the job is: %s", reply)
	}
}
