package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
)

type auditInput struct {
	By     string `query:"by" maxLength:"200" example:"operator:alice" doc:"only what this person or program did"`
	Action string `query:"action" maxLength:"200" example:"host.remove" doc:"only this action; with a dot at the end, all that begin so, such as borg."`
	Object string `query:"object" maxLength:"200" example:"host/web1" doc:"only what was done to this"`
	Before uint64 `query:"before" doc:"only entries with lower numbers: before of the page before; left out: from the newest"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"how many at most"`
}

type auditOutput struct{ Body fleet.AuditPage }

type auditProofOutput struct{ Body fleet.AuditProof }

func (a *API) registerAudit() {
	hash := strings.Repeat("5e", 32)
	read := operation{
		id: "read-audit", method: http.MethodGet, path: "/audit", tag: tagAudit, status: http.StatusOK, needs: bus.Admin,
		summary: "Read the audit, newest first",
		answer: fleet.AuditPage{Entries: []fleet.AuditEntry{{
			Number: 4711, At: exampleTime(), By: "operator:alice", From: "http 10.0.0.7", Action: "borg.archive.create",
			Object: "repository/web1-main", Outcome: "requested", Detail: "job " + string(exampleID), Hash: hash,
		}}, Before: 4711},
	}
	huma.Register(a.huma, read.huma(a), func(ctx context.Context, in *auditInput) (*auditOutput, error) {
		page, err := a.options.Audit.Audit(ctx, fleet.AuditFilter{By: in.By, Action: in.Action, Object: in.Object, Before: in.Before, Limit: in.Limit})
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		page.Entries = list(page.Entries)
		return &auditOutput{Body: page}, nil
	})
	verify := operation{
		id: "verify-audit", method: http.MethodGet, path: "/audit/verify", tag: tagAudit, status: http.StatusOK, needs: bus.Admin,
		summary:     "Check that no entry was changed or removed",
		description: "Reads the whole chain. Keep number and hash of the newest entry elsewhere: who can write the database could make the whole chain anew.",
		answer:      fleet.AuditProof{Entries: 4711, Head: hash, Intact: true, Message: "4711 entries, each follows from the one before"},
	}
	huma.Register(a.huma, verify.huma(a), func(ctx context.Context, _ *struct{}) (*auditProofOutput, error) {
		proof, err := a.options.Audit.VerifyAudit(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &auditProofOutput{Body: proof}, nil
	})
}
