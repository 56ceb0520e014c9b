package httpapi

import (
	"bufio"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Headers that come with a copy of the state.
const (
	snapshotHeader = "Borgfleet-Snapshot-At" // RFC 3339
	outsideHeader  = "Borgfleet-Outside"     // once for each thing
)

// copyPatience bounds each write of a copy: whoever takes it may ask a person
// for a passphrase first.
const copyPatience = 2 * time.Minute

type stateInput struct{ Body NewStateBackup }

// NewStateBackup is a request for a copy of the coordinator's own state.
type NewStateBackup struct {
	Recipient string `json:"recipient,omitempty" maxLength:"200" doc:"age recipient (age1...) to encrypt it to; only the owner of the data directory may leave it out"`
	Logs      bool   `json:"logs,omitempty" doc:"with the logs of jobs"`
}

const stateDescription = `Streams a file for borgfleet state restore: a consistent snapshot of the
database, every key, and certificates, as a tar archive compressed with zstd
and encrypted with age. The headers say when the snapshot was taken, and what
is kept elsewhere and needed besides. A copy that cannot be ended is cut off,
and does not pass for a whole one.`

func (a *API) registerState() {
	op := operation{
		id: "backup-state", method: http.MethodPost, path: "/state", tag: tagState, status: http.StatusOK, needs: bus.Admin,
		summary: "Copy the coordinator's own state", description: stateDescription,
		request: NewStateBackup{Recipient: "age1zzc07tyapdnclhlpsvruh5zgqhnsw9zckj43pa78sgx6acrhtdrsufqmqc"},
		failures: []job.Failure{
			{Code: job.InvalidSpec, Message: `recipient: "bob" is not an age recipient`, Hint: "make an identity with age-keygen, and give the recipient that it shows"},
			{Code: job.Conflict, Message: "another copy of the state is being made", Hint: "wait until it is written"},
		},
	}.huma(a)
	text := &huma.Schema{Type: huma.TypeString}
	op.Responses["200"].Headers = map[string]*huma.Param{
		snapshotHeader: {Description: "when the snapshot was taken", Schema: text},
		outsideHeader:  {Description: "what is needed besides; once for each thing", Schema: text},
	}
	op.Responses["200"].Content = map[string]*huma.MediaType{"application/octet-stream": {
		Schema:  &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "the file"},
		Example: "age-encryption.org/v1\n...",
	}}
	huma.Register(a.huma, op, a.backupState)
}

func (a *API) backupState(ctx context.Context, in *stateInput) (*huma.StreamResponse, error) {
	copied, err := a.options.State.BackupState(ctx, fleet.ActorOf(ctx), fleet.StateBackup{Recipient: in.Body.Recipient, Logs: in.Body.Logs})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer copied.Content.Close() // read only
		_, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set(snapshotHeader, copied.SnapshotAt.Format(time.RFC3339Nano))
		for _, thing := range copied.Outside {
			w.Header().Add(outsideHeader, thing)
		}
		out := bufio.NewWriterSize(deadlineWriter{w, http.NewResponseController(w), copyPatience}, 64<<10)
		_, err := copied.Content.WriteTo(out)
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			a.logger.Warn("a copy of the state was cut short", "err", err)
			panic(http.ErrAbortHandler) // what was sent must not pass for an answer
		}
	}}, nil
}
