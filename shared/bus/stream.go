package bus

import (
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// The stream that keeps the events of all agents until the coordinator has
// stored them, in the account FLEET.
const (
	StreamName   = "EVENTS"
	ConsumerName = "coordinator"

	// StreamSubjects is where agents' events arrive in FLEET. They are renamed
	// on their way from AGENTS, and lie outside [Prefix], so that an operator
	// who watches everything below it sees each event once: as the coordinator
	// publishes it after it was stored.
	StreamSubjects = streamPrefix + "*.*"

	// AgentEvents is the same seen from AGENTS, with references to the
	// wildcards of StreamSubjects.
	AgentEvents = Prefix + ".agent.$1.event.$2"

	streamPrefix = "borgfleet.ingest.v1."
)

// StreamSource returns host and job of a subject of the stream. Permissions
// let only that host publish there, so the host can be believed.
func StreamSource(subject string) (host string, id job.ID, err error) {
	rest, ok := strings.CutPrefix(subject, streamPrefix)
	host, text, more := strings.Cut(rest, ".")
	if !ok || !more || job.CheckHostName("host", host) != nil {
		return "", "", fmt.Errorf("subject %q is not one of an event", subject)
	}
	id, err = job.ParseID(text)
	return host, id, err
}
