package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/gate"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/google/go-cmp/cmp"
)

// The services are what the gate takes.
var (
	_ gate.Jobs         = (*dispatch.Service)(nil)
	_ gate.Hosts        = (*registry.Registry)(nil)
	_ gate.Repositories = (*registry.Registry)(nil)
	_ gate.Adoption     = (*registry.Registry)(nil)
	_ gate.Submitter    = (*dispatch.Service)(nil)
	_ gate.People       = (*access.Service)(nil)
	_ gate.Tokens       = (*access.Service)(nil)
	_ gate.Credentials  = (*access.Service)(nil)
	_ gate.Recorder     = (*access.Service)(nil)
	_ gate.Ledger       = (*store.Store)(nil)
	_ gate.State        = (*state.Keeper)(nil)
	_ gate.DepotKeeper  = (*registry.Caretaker)(nil)
	_ gate.Freezer      = (*dispatch.Service)(nil)
)

// errInside says that a call went through the gate.
var errInside = errors.New("inside")

// inside is every service: each method does nothing but say that it was called.
type inside struct {
	kind job.Kind
	spec job.Spec
}

func (inside) Submit(context.Context, fleet.Actor, job.Request) (job.Job, error) {
	return job.Job{}, errInside
}
func (inside) SubmitWith(context.Context, fleet.Actor, job.Request, secret.Value) (job.Job, error) {
	return job.Job{}, errInside
}
func (inside) Adopt(context.Context, fleet.Actor, string, job.Encryption) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, errInside
}
func (inside) Keep(context.Context, fleet.Actor, string, secret.Value) error { return errInside }
func (inside) Abandon(context.Context, fleet.Actor, string) error            { return errInside }
func (inside) Cancel(context.Context, fleet.Actor, job.ID) (job.Job, error) {
	return job.Job{}, errInside
}
func (inside) Retry(context.Context, fleet.Actor, job.ID) (job.Job, error) {
	return job.Job{}, errInside
}
func (i inside) Job(_ context.Context, id job.ID) (job.Job, error) {
	if i.kind != "" {
		return job.Job{ID: id, Kind: i.kind, Spec: i.spec}, nil
	}
	return job.Job{}, errInside
}
func (inside) Jobs(context.Context, job.Filter) (job.Page, error) { return job.Page{}, errInside }
func (inside) AddHost(context.Context, fleet.Actor, string, map[string]string) (fleet.HostView, error) {
	return fleet.HostView{}, errInside
}
func (inside) RemoveHost(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Host(context.Context, string) (fleet.HostView, error) {
	return fleet.HostView{}, errInside
}
func (inside) Hosts(context.Context) ([]fleet.HostView, error) { return nil, errInside }
func (inside) EnrolmentToken(context.Context, fleet.Actor, fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, errInside
}
func (inside) EnrolmentTokens(context.Context) ([]fleet.EnrolmentToken, error) {
	return nil, errInside
}
func (inside) RemoveEnrolmentToken(context.Context, fleet.Actor, string) error { return errInside }
func (inside) AddRepository(context.Context, fleet.Actor, fleet.NewRepository) (fleet.RepositoryView, secret.Value, error) {
	return fleet.RepositoryView{}, secret.Value{}, errInside
}
func (inside) SealPassphrase(context.Context, fleet.Actor, string, map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, errInside
}
func (inside) MoveRepository(context.Context, fleet.Actor, string, string) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, errInside
}
func (inside) RemoveRepository(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Repository(context.Context, string) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, errInside
}
func (inside) Repositories(context.Context) ([]fleet.RepositoryView, error) { return nil, errInside }
func (inside) Users(context.Context) ([]fleet.User, error)                  { return nil, errInside }
func (inside) AddUser(context.Context, fleet.Actor, string, bus.Role) (fleet.User, secret.Value, time.Time, error) {
	return fleet.User{}, secret.Value{}, time.Time{}, errInside
}
func (inside) SetRole(context.Context, fleet.Actor, string, bus.Role) (fleet.User, error) {
	return fleet.User{}, errInside
}
func (inside) NewLink(context.Context, fleet.Actor, string) (secret.Value, time.Time, error) {
	return secret.Value{}, time.Time{}, errInside
}
func (inside) RemoveUser(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Tokens(context.Context) ([]fleet.APIToken, error)      { return nil, errInside }
func (inside) AddToken(context.Context, fleet.Actor, fleet.NewAPIToken) (fleet.APIToken, secret.Value, error) {
	return fleet.APIToken{}, secret.Value{}, errInside
}
func (inside) RemoveToken(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Credentials(context.Context) ([]fleet.NATSCredentials, error) {
	return nil, errInside
}
func (inside) MintCredentials(context.Context, fleet.Actor, string, bus.Role) (fleet.NATSCredentials, secret.Value, error) {
	return fleet.NATSCredentials{}, secret.Value{}, errInside
}
func (inside) RevokeCredentials(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Audit(fleet.AuditFilter) (fleet.AuditPage, error) {
	return fleet.AuditPage{}, errInside
}
func (inside) VerifyAudit(context.Context) (fleet.AuditProof, error) {
	return fleet.AuditProof{}, errInside
}
func (inside) BackupState(context.Context, fleet.Actor, fleet.StateBackup) (*fleet.StateCopy, error) {
	return nil, errInside
}

func (inside) AddSSHHost(context.Context, fleet.Actor, fleet.NewSSHHost) (fleet.HostView, error) {
	return fleet.HostView{}, errInside
}
func (inside) ChangeHost(context.Context, fleet.Actor, string, fleet.HostChange) (fleet.HostView, error) {
	return fleet.HostView{}, errInside
}
func (inside) SharedSSHKey(context.Context) (string, error) { return "", errInside }
func (inside) Allow(context.Context, fleet.Actor, string, string) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, errInside
}
func (inside) Deny(context.Context, fleet.Actor, string, string) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, errInside
}
func (inside) ScanSSH(context.Context, fleet.Actor, string, []fleet.SSHHop) ([]fleet.ShownKey, error) {
	return nil, errInside
}
func (inside) TryHost(context.Context, fleet.Actor, string) error { return errInside }
func (inside) ConvertHost(context.Context, fleet.Actor, string) ([]fleet.ConvertStep, error) {
	return nil, errInside
}
func (inside) Depot(context.Context) (fleet.DepotView, error) { return fleet.DepotView{}, errInside }
func (inside) Transactions(context.Context, string) ([]fleet.Transaction, error) {
	return nil, errInside
}
func (inside) Rollback(context.Context, fleet.Actor, string, int, string) error { return errInside }
func (inside) Unfreeze(context.Context, fleet.Actor, string, string) (job.Job, error) {
	return job.Job{}, errInside
}

// recorder keeps what was refused.
type recorder struct{ refused []string }

func (r *recorder) Refused(by fleet.Actor, action, object string) {
	r.refused = append(r.refused, fmt.Sprintf("%s %s %s", by.Name, action, object))
}

// anybody says that a method reads what everybody may read who is known: the
// edges refuse the others.
const anybody bus.Role = ""

// needed is the role that each method needs, as people are told.
var needed = map[string]bus.Role{
	"Jobs.Submit": bus.Operator, "Jobs.Cancel": bus.Operator, "Jobs.Retry": bus.Operator, "Jobs.Job": anybody, "Jobs.Jobs": anybody,
	"Hosts.AddHost": bus.Admin, "Hosts.RemoveHost": bus.Admin, "Hosts.Host": anybody, "Hosts.Hosts": anybody,
	"Hosts.AddSSHHost": bus.Admin, "Hosts.ChangeHost": bus.Admin, "Hosts.SharedSSHKey": bus.Admin,
	"Connections.ScanSSH": bus.Operator, "Connections.TryHost": bus.Operator, "Connections.ConvertHost": bus.Admin,
	"Depot.Depot": anybody, "Depot.Transactions": anybody, "Depot.Rollback": bus.Admin, "Depot.Unfreeze": bus.Admin,
	"Repositories.Allow": bus.Admin, "Repositories.Deny": bus.Admin,
	"Enrolment.EnrolmentToken": bus.Admin, "Enrolment.EnrolmentTokens": bus.Admin, "Enrolment.RemoveEnrolmentToken": bus.Admin,
	"Repositories.AddRepository": bus.Admin, "Repositories.SealPassphrase": bus.Admin, "Repositories.MoveRepository": bus.Admin, "Repositories.RemoveRepository": bus.Admin,
	"Repositories.Repository": anybody, "Repositories.Repositories": anybody,
	"People.Users": bus.Admin, "People.AddUser": bus.Admin, "People.SetRole": bus.Admin, "People.NewLink": bus.Admin, "People.RemoveUser": bus.Admin,
	"Tokens.Tokens": bus.Admin, "Tokens.AddToken": bus.Admin, "Tokens.RemoveToken": bus.Admin,
	"Credentials.Credentials": bus.Admin, "Credentials.MintCredentials": bus.Admin, "Credentials.RevokeCredentials": bus.Admin,
	"Operations.SubmitWith": bus.Admin, "Operations.Repositories": bus.Admin,
	"Operations.Adopt": bus.Admin, "Operations.Keep": bus.Admin, "Operations.Abandon": bus.Admin,
	"Manifests.Apply": bus.Admin, "Manifests.Export": anybody,
	"Plans.AddPlan": bus.Admin, "Plans.ChangePlan": bus.Admin, "Plans.RemovePlan": bus.Admin,
	"Plans.PausePlan": bus.Operator, "Plans.ResumePlan": bus.Operator, "Plans.RunPlan": bus.Operator, "Plans.CancelRun": bus.Operator,
	"Plans.AcceptBackup": bus.Operator, "Plans.TestRestore": bus.Operator,
	"Plans.Plan": anybody, "Plans.Plans": anybody, "Plans.PlanNames": anybody, "Plans.PlanRun": anybody, "Plans.PlanRuns": anybody, "Plans.Freshness": anybody, "Plans.Calendar": anybody,
	"Alerts.Alerts": anybody, "Alerts.Alert": anybody, "Alerts.Silences": anybody, "Alerts.AddSilence": bus.Operator, "Alerts.RemoveSilence": bus.Operator,
	"Notifications.Targets": anybody, "Notifications.PutTarget": bus.Admin, "Notifications.RemoveTarget": bus.Admin, "Notifications.TestTarget": bus.Operator,
	"Notifications.Rules": anybody, "Notifications.PutRule": bus.Admin, "Notifications.RemoveRule": bus.Admin, "Notifications.Deliveries": anybody,
	"Audit.Audit": bus.Admin, "Audit.VerifyAudit": bus.Admin, "State.BackupState": bus.Admin,
}

// services returns everything behind a gate, by name.
func services(g *gate.Gate) map[string]any {
	return map[string]any{
		"Jobs": g.Jobs(inside{}), "Hosts": g.Hosts(inside{}), "Enrolment": g.Enrolment(inside{}), "Repositories": g.Repositories(inside{}),
		"People": g.People(inside{}), "Tokens": g.Tokens(inside{}), "Credentials": g.Credentials(inside{}), "Audit": g.Audit(inside{}),
		"State": g.State(inside{}), "Operations": g.Operations(inside{}, inside{}),
		"Connections": g.Connections(inside{}), "Depot": g.Depot(inside{}, inside{}),
		"Manifests": g.Manifests(inside{}), "Plans": g.Plans(inside{}), "Alerts": g.Alerts(inside{}), "Notifications": g.Notifications(inside{}),
	}
}

// call calls a method in an actor's name, with zero values else, and returns
// its error.
func call(ctx context.Context, method reflect.Value, by fleet.Actor) error {
	var in []reflect.Value
	hasBy := false
	for i := range method.Type().NumIn() {
		switch t := method.Type().In(i); t {
		case reflect.TypeFor[context.Context]():
			in = append(in, reflect.ValueOf(&ctx).Elem())
		case reflect.TypeFor[fleet.Actor]():
			in, hasBy = append(in, reflect.ValueOf(by)), true
		default:
			in = append(in, reflect.Zero(t))
		}
	}
	if !hasBy {
		in[0] = reflect.ValueOf(fleet.WithActor(ctx, by))
	}
	out := method.Call(in)
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

// wantRefused checks a refusal's code, and that its hint names the role.
func wantRefused(t *testing.T, err error, role bus.Role) {
	t.Helper()
	f, ok := errors.AsType[*job.Failure](err)
	if !ok || f.Code != job.NotAllowed {
		t.Fatalf("error %v, want a refusal", err)
	}
	if !strings.Contains(f.Message, " may not ") || !strings.Contains(f.Hint, "the role "+string(role)) {
		t.Errorf("refusal %q with hint %q does not name the role %s", f.Message, f.Hint, role)
	}
}

// TestEveryMethodWithEveryRole finds the methods by reflection, so that a new
// one fails until it is in the table.
func TestEveryMethodWithEveryRole(t *testing.T) {
	var seen []string
	for service, value := range services(gate.New(&recorder{})) {
		for i := range reflect.TypeOf(value).NumMethod() {
			name := service + "." + reflect.TypeOf(value).Method(i).Name
			seen = append(seen, name)
			role, known := needed[name]
			if !known {
				t.Errorf("it is not said who may call %s", name)
			}
			for _, own := range []bus.Role{"", "root", bus.Viewer, bus.Operator, bus.Admin} {
				t.Run(name+" as "+string(own), func(t *testing.T) { walk(t, name, own, role) })
			}
		}
	}
	if len(seen) != len(needed) {
		t.Errorf("%d methods, but the table has %d", len(seen), len(needed))
	}
}

func walk(t *testing.T, name string, own, role bus.Role) {
	notes := &recorder{}
	service, method, _ := strings.Cut(name, ".")
	err := call(t.Context(), reflect.ValueOf(services(gate.New(notes))[service]).MethodByName(method), fleet.Actor{Name: "operator:x", Role: own})
	if role == anybody || own.Includes(role) {
		if !errors.Is(err, errInside) || len(notes.refused) != 0 {
			t.Errorf("error %v, noted %q; want that it was let in", err, notes.refused)
		}
		return
	}
	wantRefused(t, err, role)
	if len(notes.refused) != 1 || !strings.HasPrefix(notes.refused[0], "operator:x ") {
		t.Errorf("noted %q, want one refusal", notes.refused)
	}
}

// TestNobodyInTheContext is a request that an edge forgot to authenticate.
func TestNobodyInTheContext(t *testing.T) {
	_, err := gate.New(&recorder{}).Audit(inside{}).Audit(t.Context(), fleet.AuditFilter{})
	wantRefused(t, err, bus.Admin)
	if !strings.HasPrefix(err.Error(), "somebody without a role may not read the audit") {
		t.Errorf("error %q", err)
	}
}

func TestKinds(t *testing.T) {
	adminKinds := []job.Kind{job.Init, job.Delete, job.KeyExport, job.BreakLock}
	operator := fleet.Actor{Name: "operator:olga", Role: bus.Operator}
	for _, kind := range job.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			notes := &recorder{}
			jobs := gate.New(notes).Jobs(inside{kind: kind})
			_, submit := jobs.Submit(t.Context(), operator, job.Request{Kind: kind, Host: "web1", Repository: "main"})
			_, retry := jobs.Retry(t.Context(), operator, "01J")
			if !slices.Contains(adminKinds, kind) {
				if !errors.Is(submit, errInside) || !errors.Is(retry, errInside) {
					t.Errorf("Submit: %v; Retry: %v", submit, retry)
				}
				return
			}
			wantRefused(t, submit, bus.Admin)
			wantRefused(t, retry, bus.Admin)
			want := []string{"operator:olga job.submit " + string(kind) + " of web1 to main", "operator:olga job.retry job/01J"}
			if diff := cmp.Diff(want, notes.refused); diff != "" {
				t.Errorf("noted (-want +got):\n%s", diff)
			}
			admin := fleet.Actor{Name: "operator:ada", Role: bus.Admin}
			if _, err := jobs.Submit(t.Context(), admin, job.Request{Kind: kind}); !errors.Is(err, errInside) {
				t.Errorf("an admin's Submit: %v", err)
			}
		})
	}
}

// TestSpecs starts jobs that take more than others of their kind.
func TestSpecs(t *testing.T) {
	operator, admin := fleet.Actor{Name: "operator:olga", Role: bus.Operator}, fleet.Actor{Name: "operator:ada", Role: bus.Admin}
	for name, test := range map[string]struct {
		spec  job.Spec
		words string // empty: an operator may
	}{
		"a check":               {job.CheckSpec{VerifyData: true}, ""},
		"a repair":              {job.CheckSpec{Repair: true}, "an operator may not start jobs that repair a repository"},
		"a backup":              {job.BackupSpec{Paths: []string{"/etc"}}, ""},
		"a backup with options": {job.BackupSpec{Paths: []string{"/etc"}, ExtraOptions: []string{"--noatime"}}, "an operator may not start jobs with extra options for borg"},
		"a verification":        {job.VerifySpec{}, ""},
		"a repository accepted": {job.VerifySpec{AcceptMoved: true}, "an operator may not start jobs that accept a repository which was moved or rolled back"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(test.spec)
			if err != nil {
				t.Fatal(err)
			}
			kind := test.spec.Kind()
			jobs := gate.New(&recorder{}).Jobs(inside{kind: kind, spec: test.spec})
			request := job.Request{Kind: kind, Host: "web1", Repository: "main", Spec: data}
			_, submit := jobs.Submit(t.Context(), operator, request)
			_, retry := jobs.Retry(t.Context(), operator, "01J")
			if test.words == "" {
				if !errors.Is(submit, errInside) || !errors.Is(retry, errInside) {
					t.Errorf("Submit: %v; Retry: %v", submit, retry)
				}
				return
			}
			wantRefused(t, submit, bus.Admin)
			wantRefused(t, retry, bus.Admin)
			if !strings.HasPrefix(submit.Error(), test.words) {
				t.Errorf("refused with %q, want %q", submit, test.words)
			}
			if _, err := jobs.Submit(t.Context(), admin, request); !errors.Is(err, errInside) {
				t.Errorf("an admin's Submit: %v", err)
			}
		})
	}
}

// TestRetryOfNothing asks nothing of the service but the job.
func TestRetryOfNothing(t *testing.T) {
	jobs := gate.New(&recorder{}).Jobs(inside{})
	if _, err := jobs.Retry(t.Context(), fleet.Actor{Role: bus.Admin}, "01J"); !errors.Is(err, errInside) {
		t.Errorf("Retry = %v, want the error of reading the job", err)
	}
}
