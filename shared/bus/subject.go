package bus

import (
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Prefix begins every subject of this version of the protocol.
const Prefix = "borgfleet.v1"

// Subjects that the coordinator serves to operators, below [Prefix].
const (
	JobsSubmit       = Prefix + ".jobs.submit"
	JobsGet          = Prefix + ".jobs.get"
	JobsList         = Prefix + ".jobs.list"
	JobsCancel       = Prefix + ".jobs.cancel"
	JobsRetry        = Prefix + ".jobs.retry"
	JobsLog          = Prefix + ".jobs.log"
	HostsList        = Prefix + ".hosts.list"
	HostsGet         = Prefix + ".hosts.get"
	RepositoriesList = Prefix + ".repositories.list"
	RepositoriesGet  = Prefix + ".repositories.get"
	StatusSubject    = Prefix + ".status"
	ArchivesList     = Prefix + ".archives.list"
	ArchivesFiles    = Prefix + ".archives.files"
	ArchivesFind     = Prefix + ".archives.find"
	ArchivesHistory  = Prefix + ".archives.history"
	PlansList        = Prefix + ".plans.list"
	PlansGet         = Prefix + ".plans.get"
	PlansRun         = Prefix + ".plans.run"
)

// Wildcards over all hosts.
const (
	AllHellos   = Prefix + ".agent.*.hello"
	AllProgress = Prefix + ".agent.*.progress.*"
)

// OrderSubject is where a host takes orders (request and reply).
func OrderSubject(host string) string { return Prefix + ".cmd." + host + ".order" }

// CancelSubject is where a host takes cancellations (request and reply).
func CancelSubject(host string) string { return Prefix + ".cmd." + host + ".cancel" }

// ReadSubject is where a host is asked for a piece of what borg prints, in a job
// that [job.Streams] (request and reply).
func ReadSubject(host string) string { return Prefix + ".cmd." + host + ".read" }

// PresenceSubject is where one run of a host's agent answers whether it is
// there (request and reply).
func PresenceSubject(host, instance string) string {
	return Prefix + ".cmd." + host + ".presence." + instance
}

// HelloSubject is where a host says hello (request and reply).
func HelloSubject(host string) string { return Prefix + ".agent." + host + ".hello" }

// EventSubject is where a host publishes events of one job.
func EventSubject(host string, id job.ID) string {
	return Prefix + ".agent." + host + ".event." + string(id)
}

// ProgressSubject is where a host publishes live progress of one job.
func ProgressSubject(host string, id job.ID) string {
	return Prefix + ".agent." + host + ".progress." + string(id)
}

// PublicEvent is where operators watch events of one job, after it was stored.
func PublicEvent(host string, id job.ID) string { return Prefix + ".event." + host + "." + string(id) }

// PublicProgress is where operators watch live progress of one job.
func PublicProgress(host string, id job.ID) string {
	return Prefix + ".progress." + host + "." + string(id)
}

// PublicHeartbeat is where operators watch a host's hellos.
func PublicHeartbeat(host string) string { return Prefix + ".heartbeat." + host }

// PublicRun is where operators watch the runs of a plan, after they were stored.
func PublicRun(plan string) string { return Prefix + ".run." + plan }

// PublicAlert is where operators watch alerts of a kind, after they were stored.
func PublicAlert(kind string) string { return Prefix + ".alert." + kind }

// HostOf returns the host in a subject of the form borgfleet.v1.agent.<host>.….
// Permissions let only that host publish there, so it can be believed.
func HostOf(subject string) (string, error) {
	rest, ok := strings.CutPrefix(subject, Prefix+".agent.")
	host, _, more := strings.Cut(rest, ".")
	if !ok || !more || job.CheckHostName("host", host) != nil {
		return "", fmt.Errorf("subject %q names no host", subject)
	}
	return host, nil
}

// InboxPrefix is the only place where the named client may receive replies.
func InboxPrefix(name string) string { return "_INBOX." + name }

// OwnInbox reports whether a reply subject lies in the inbox of the named
// client. A request whose reply does not is never answered.
func OwnInbox(name, reply string) bool { return within(InboxPrefix(name), reply) }

// FromCoordinator reports whether a reply subject lies where only the
// coordinator's connection to the agents receives: agents answer no others.
func FromCoordinator(reply string) bool { return within(PrivateInbox(AgentsConnection), reply) }

func within(inbox, reply string) bool {
	return strings.HasPrefix(reply, inbox+".") && !strings.ContainsAny(reply, "*> ")
}

// EventID is the id under which an event is published; the stream recognises
// repeats by it. The journal's id makes it one that no other host can guess, and
// use before.
func EventID(e Event) string {
	return fmt.Sprintf("%s.%s.%d.%d", e.Stamp.Journal, e.Job, e.Attempt, e.Seq)
}
