package busapi_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/busapi"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// planner is a plan service with one plan, daily.
type planner struct {
	mu    sync.Mutex
	runs  []fleet.Run // newest first
	asked fleet.RunRequest
	by    fleet.Actor
	hosts int // that a run begins on; 0: one
}

func (p *planner) Plan(_ context.Context, name string) (fleet.PlanView, error) {
	if name != "daily" {
		return fleet.PlanView{}, fleet.UnknownPlan(name)
	}
	return fleet.PlanView{Plan: fleet.Plan{Name: name}}, nil
}

func (p *planner) PlanNames(context.Context) ([]string, error) { return []string{"daily"}, nil }

func (p *planner) RunPlan(ctx context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error) {
	if _, err := p.Plan(ctx, name); err != nil {
		return fleet.Run{}, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.by = asked, by
	run := fleet.Run{ID: "01R", Plan: name}
	var jobs []job.Job
	for range max(p.hosts, 1) {
		jobs = append(jobs, job.Job{ID: job.NewID(time.Now()), Kind: job.Backup, Run: run.ID, Spec: job.BackupSpec{Paths: []string{"/etc"}}})
		run.Tasks = append(run.Tasks, fleet.Task{Kind: job.Backup})
	}
	return run, jobs, nil
}

func (p *planner) PlanRuns(_ context.Context, filter fleet.RunFilter) (fleet.RunPage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if filter.Plan != "daily" {
		return fleet.RunPage{}, fleet.UnknownPlan(filter.Plan)
	}
	return fleet.RunPage{Runs: append([]fleet.Run{}, p.runs...)}, nil
}

// set makes the plan's runs.
func (p *planner) set(runs ...fleet.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs = runs
}

func TestAPlanFansOut(t *testing.T) {
	c := &coordinator{}
	operator, _ := serve(t, c)
	var reply busapi.SubmitReply
	if failure := request(t, operator, bus.JobsSubmit, `{"plan":"daily","idempotency_key":"k"}`, &reply); failure != nil {
		t.Fatal(failure)
	}
	if reply.Job != nil || reply.Run.ID != "01R" || len(reply.Jobs) != 1 || reply.JobsOmitted != 0 {
		t.Errorf("reply %+v", reply)
	}
	c.planner.mu.Lock()
	defer c.planner.mu.Unlock()
	if diff := cmp.Diff(fleet.RunRequest{IdempotencyKey: "k"}, c.planner.asked); diff != "" || c.planner.by.Name != "operator:alice" {
		t.Errorf("asked by %s: %s", c.planner.by.Name, diff)
	}
}

// A run on more hosts than fit into an answer is told all the same.
func TestARunOfManyHostsFitsAMessage(t *testing.T) {
	c := &coordinator{planner: planner{hosts: 9000}}
	operator, _ := serve(t, c)
	var reply busapi.SubmitReply
	if failure := request(t, operator, bus.PlansRun, `{"name":"daily"}`, &reply); failure != nil {
		t.Fatal(failure)
	}
	if len(reply.Jobs) == 0 || len(reply.Jobs)+reply.JobsOmitted != 9000 || reply.JobsOmitted == 0 {
		t.Errorf("%d jobs and %d more", len(reply.Jobs), reply.JobsOmitted)
	}
}

func TestAPlanExcludesOtherFields(t *testing.T) {
	c := &coordinator{}
	operator, _ := serve(t, c)
	var reply busapi.SubmitReply
	if failure := request(t, operator, bus.JobsSubmit, `{"plan":"daily","host":"web1","kind":"backup","spec":{"paths":["/etc"]}}`, &reply); failure != nil {
		t.Fatal(failure)
	}
	if reply.Job == nil || reply.Run != nil { // the job service is asked, which refuses it
		t.Errorf("reply %+v", reply)
	}
}

// A viewer reads plans, and runs none.
func TestViewersRunNoPlans(t *testing.T) {
	c := &coordinator{}
	_, _, b := serveOn(t, c)
	viewer := connect(t, b, "victor", bus.Viewer)
	if failure := request(t, viewer, bus.PlansGet, `{"name":"daily"}`, new(json.RawMessage)); failure != nil {
		t.Error(failure)
	}
	refused := make(chan error, 1)
	viewer.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if err := viewer.PublishRequest(bus.PlansRun, "_INBOX.x", []byte(`{"name":"daily"}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !strings.Contains(err.Error(), "Permissions Violation") {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the server let it pass")
	}
}

// watchAll returns what is published from now on.
func watchAll(t *testing.T, operator *nats.Conn) *nats.Subscription {
	t.Helper()
	watch, err := operator.SubscribeSync("borgfleet.v1.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	return watch
}

func wantMessage(t *testing.T, watch *nats.Subscription, subject, text string) {
	t.Helper()
	message, err := watch.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if message.Subject != subject || !strings.Contains(string(message.Data), text) {
		t.Errorf("published on %s: %s; want %s with %s", message.Subject, message.Data, subject, text)
	}
}

func TestRunsAndAlertsArePublished(t *testing.T) {
	c := &coordinator{}
	operator, changes := serve(t, c)
	watch := watchAll(t, operator)
	run := func(id string, state fleet.RunState) fleet.Run {
		return fleet.Run{ID: id, Plan: "daily", State: state}
	}
	change := func() { changes.Publish(feed.Update{Type: feed.PlanChanged, Plan: "daily"}) }
	subject := bus.PublicRun("daily")

	c.planner.set(run("02", fleet.RunRunning), run("01", fleet.RunSucceeded))
	change()
	wantMessage(t, watch, subject, `{"id":"02"`)
	change() // nothing of its runs
	// The one before ends after a newer one has begun; both are told, once.
	c.planner.set(run("03", fleet.RunRunning), run("02", fleet.RunFailed), run("01", fleet.RunSucceeded))
	change()
	wantMessage(t, watch, subject, `"state":"failed"`)
	wantMessage(t, watch, subject, `{"id":"03"`)
	changes.Publish(feed.Update{Type: feed.PlanChanged, Plan: "gone"})
	changes.Publish(feed.Update{Type: feed.PlanChanged, Plan: "daily.>"})

	for _, alert := range []fleet.Alert{
		{ID: "1", Condition: fleet.Condition{Kind: "a.b"}}, {ID: "2", Condition: fleet.Condition{Kind: ">"}},
		{ID: "3", Condition: fleet.Condition{Kind: "overdue", Plan: "daily"}},
	} {
		changes.Publish(feed.Update{Type: feed.AlertChanged, Alert: &alert})
	}
	wantMessage(t, watch, bus.PublicAlert("overdue"), `"plan":"daily"`)
}
