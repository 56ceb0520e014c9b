package web

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// runPage is the data of the page of one run of a plan.
type runPage struct {
	runRow
	commands
	reader
	Rows    []taskRow
	Refused *job.Failure // why the last action was not done
}

// run builds the page of a run. refused says why an action was not done.
func (s *site) run(ctx context.Context, id string, c commands, refused *job.Failure) (*view, error) {
	run, err := s.Plans.PlanRun(ctx, id)
	if err != nil {
		return nil, err
	}
	now := s.moment()
	page := &runPage{runRow: runRow{now, run}, commands: c, reader: readerOf(ctx), Refused: refused}
	for i, task := range run.Tasks {
		page.Rows = append(page.Rows, taskRow{clock: now, Task: task, Number: i + 1})
	}
	s.readOrders(ctx, page.Rows)
	v := &view{
		Title: page.Chip().Word + " · run of " + run.Plan, Nav: "/plans", Body: "run", Data: page, Live: []string{"run-head", "run-tasks", "run-commands"},
		Cares: func(u feed.Update) bool { return u.Type == feed.Missed || (caresForState(u) && u.Plan == run.Plan) },
	}
	if refused != nil {
		v.Status = refused.Code.HTTPStatus()
	}
	return v, nil
}

// ordersRead bounds how many open jobs of a run are read for its page.
const ordersRead = 100

// readOrders reads the jobs of tasks that are not over: they may still wait. One
// that cannot be read is shown as the run knows it.
func (s *site) readOrders(ctx context.Context, rows []taskRow) {
	left := ordersRead
	for i, row := range rows {
		if row.Job == "" || row.State != fleet.RunRunning || left == 0 {
			continue
		}
		left--
		j, err := s.Jobs.Job(ctx, row.Job)
		if err != nil {
			s.logger.Debug("cannot read the job of a task", "job", row.Job, "err", err)
		} else if !j.State.Terminal() {
			rows[i].Order = &j
		}
	}
}

// Open reports whether it is not over.
func (p *runPage) Open() bool { return p.State == fleet.RunRunning }

// AboutRun is a command of the run family about one run.
func (c commands) AboutRun(verb, id string) string { return c.borgfleet("run", verb, id) }

// cancelRun cancels the jobs of a run, and begins no others.
func (s *site) cancelRun(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := s.Plans.CancelRun(r.Context(), fleet.ActorOf(r.Context()), id); err != nil {
		refused := failures(err)[0]
		if refused.Code == job.NotAllowed {
			s.faultOf(w, r, refused)
			return
		}
		v, err := s.run(r.Context(), id, s.commandsFor(r), refused)
		if err != nil {
			s.faultOf(w, r, err)
			return
		}
		s.render(w, r, v)
		return
	}
	http.Redirect(w, r, runURL(id), http.StatusSeeOther)
}

// Done is how many of its tasks are over.
func (p *runPage) Done() (count int) {
	for _, task := range p.Tasks {
		if task.State != fleet.RunRunning {
			count++
		}
	}
	return count
}
