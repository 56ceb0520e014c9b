package job

import "fmt"

// Lock is one holder of a repository's lock.
type Lock struct {
	Holder    string   `json:"holder"`    // as borg wrote it: host id and process
	PID       int      `json:"pid"`       // of its process; 0 when it cannot be read
	Exclusive bool     `json:"exclusive"` // else it is shared
	Process   Vitality `json:"process"`
}

// Vitality says whether a process lives.
type Vitality string

// What can be known of a lock's holder from where the job runs.
const (
	Alive   Vitality = "alive"
	Dead    Vitality = "dead"    // it was a process of this host, and is gone
	Unknown Vitality = "unknown" // it is, or was, a process of another host
)

// String is the holder in words: "process 4711 of this host, which is gone".
// The host is the one where the job ran.
func (l Lock) String() string {
	switch l.Process {
	case Dead:
		return fmt.Sprintf("process %d of this host, which is gone", l.PID)
	case Alive:
		return fmt.Sprintf("process %d of this host, which is alive", l.PID)
	default:
		return l.Holder + ", of which nothing is known here"
	}
}
