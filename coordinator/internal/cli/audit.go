package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
)

type auditCommands struct {
	List   auditList   `cmd:"" help:"Who did what, from where, and how it ended; newest first."`
	Verify auditVerify `cmd:"" help:"Check that no entry was changed or removed."`
}

type auditList struct {
	By     string `help:"Only of this person or program, for example operator:alice." placeholder:"NAME"`
	Action string `help:"Only this action, for example host.remove; borg. is all of borg's." placeholder:"ACTION"`
	Object string `help:"Only about this, for example repository/web1-main." placeholder:"OBJECT"`
	Before uint64 `help:"Only entries with lower numbers." placeholder:"N"`
	Limit  int    `help:"How many, at most 500. Default: ${default}." default:"50" placeholder:"N"`
}

// Run runs the command.
func (c auditList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	page, err := api.Audit(s.ctx, fleet.AuditFilter{By: c.By, Action: c.Action, Object: c.Object, Before: c.Before, Limit: c.Limit})
	if err != nil {
		return err
	}
	return s.show(page, func() {
		if len(page.Entries) == 0 {
			s.printf("No entries.\n")
			return
		}
		t := newTable(s.Out, "NO", "WHEN", "WHO", "FROM", "ACTION", "OBJECT", "OUTCOME", "DETAIL")
		for _, e := range page.Entries {
			t.row(strconv.FormatUint(e.Number, 10), e.At.Local().Format(time.DateTime), e.By, orNone(e.From), e.Action, e.Object, e.Outcome, e.Detail)
		}
		t.end()
		if page.Before > 0 {
			s.printf("More: --before %d\n", page.Before)
		}
	})
}

type auditVerify struct {
	Expect string `help:"Also check that entry NUMBER has this hash, as an earlier verify printed it." placeholder:"NUMBER:HASH"`
}

// Help is the end of the command's help.
func (auditVerify) Help() string {
	return `Each entry's hash covers the one before, so a changed, inserted or removed entry shows. Who can write the coordinator's database could make the whole chain anew: keep the number and hash that this command prints somewhere else, and give them with --expect next time.`
}

// Run runs the command; the exit code is 1 when the chain is broken.
func (c auditVerify) Run(s *session) error {
	number, hash, err := c.expected()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	proof, err := api.VerifyAudit(s.ctx)
	if err != nil {
		return err
	}
	if err := s.show(proof, func() { s.printProof(proof) }); err != nil {
		return err
	}
	switch {
	case !proof.Intact:
		return fmt.Errorf("the audit was tampered with: %s", proof.Message)
	case hash == "":
		return nil
	case number > proof.Entries:
		return fmt.Errorf("entry %d is not there any more: the audit was tampered with", number)
	}
	page, err := api.Audit(s.ctx, fleet.AuditFilter{Before: number + 1, Limit: 1})
	if err != nil {
		return err
	}
	if len(page.Entries) != 1 || page.Entries[0].Number != number || page.Entries[0].Hash != hash {
		return fmt.Errorf("entry %d does not have the hash that is expected: the audit was made anew", number)
	}
	return nil
}

func (s *session) printProof(proof fleet.AuditProof) {
	if !proof.Intact {
		return
	}
	s.printf("%d %s, each follows from the one before.\n", proof.Entries, human.Noun(int64(proof.Entries), "entry"))
	if proof.Entries > 0 {
		s.printf("Newest: %d:%s\n", proof.Entries, proof.Head)
	}
}

func (c auditVerify) expected() (number uint64, hash string, err error) {
	if c.Expect == "" {
		return 0, "", nil
	}
	text, hash, ok := strings.Cut(c.Expect, ":")
	number, err = strconv.ParseUint(text, 10, 64)
	digest, fault := hex.DecodeString(hash)
	if !ok || err != nil || number == 0 || fault != nil || len(digest) != sha256.Size {
		return 0, "", console.Usage("--expect is not NUMBER:HASH, as audit verify prints it")
	}
	return number, strings.ToLower(hash), nil
}
