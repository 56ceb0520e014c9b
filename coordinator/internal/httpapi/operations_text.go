package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const borgDescription = `One borg operation a call, which waits for its end and answers with what it
brought. Each is a job like any other: it is in the audit, waits for the
repository, and goes on if the caller goes away. repository_path is the name of
a known repository or a location; one that is not known is taken in by the first
call that reaches it, with its passphrase, and a call that fails leaves nothing
behind. With Prefer: respond-async a call answers 202 with the job.`

const exampleRepositoryID = "aa8e2a0f2e7c3e6f0a6f7cfe8a8f3fdb7b9d2c1e5f4a3b2c1d0e9f8a7b6c5d4e"

// borg completes what all operations of this API have in common.
func (a *API) borg(o operation) huma.Operation {
	o.path, o.tag, o.status, o.needs = borgPrefix+o.path, tagBorg, http.StatusOK, bus.Admin
	o.description = strings.TrimSpace(o.description + " Waits for the job's end, unless the caller prefers otherwise.")
	o.failures = append(o.failures, hostNotChosen(), unknownHost(), unknownRepository(), wrongPassphrase(), noRepository(),
		job.Failure{Code: job.RepositoryLocked, Message: "the repository is locked by another program", Hint: "wait until that has ended"},
		job.Failure{Code: job.InvalidSpec, Message: "keep_daily: must not be negative"},
	)
	return o.waits(a)
}

func hostNotChosen() job.Failure {
	return job.Failure{Code: job.InvalidRequest, Message: "host: left out, and there are 2 hosts", Hint: "one of web1, web2"}
}

func wrongPassphrase() job.Failure {
	return job.Failure{Code: job.PassphraseWrong, Message: "the passphrase is wrong", Hint: "give the one that the repository was made with"}
}

func noRepository() job.Failure {
	return job.Failure{Code: job.RepositoryMissing, Message: "there is no repository at /srv/borg/web9", Hint: "POST " + borgPrefix + "/init makes one"}
}

func noArchive() job.Failure {
	return job.Failure{Code: job.ArchiveMissing, Message: "there is no archive web9_20261122_020000", Hint: "GET " + borgPrefix + "/archives lists them"}
}

func repositoryTaken() job.Failure {
	return job.Failure{Code: job.RepositoryExists, Message: "there is a repository at /srv/borg/web1 already", Hint: "use it, or choose another place"}
}

func badEncryption() job.Failure {
	return job.Failure{Code: job.InvalidSpec, Message: `encryption: "rot13" is not an encryption mode`, Hint: "one of repokey-blake2, repokey, keyfile-blake2, keyfile, authenticated-blake2, authenticated, none"}
}

// resultOf is what a job brought, which is nothing rather than null.
func resultOf(j job.Job) job.Result {
	if j.Result == nil {
		return job.Result{}
	}
	return *j.Result
}

// remark adds borg's warnings to a message.
func remark(j job.Job, message string) string {
	result := resultOf(j)
	n := len(result.Warnings) + result.WarningsOmitted
	if n == 0 {
		return message
	}
	if len(result.Warnings) == 0 {
		return fmt.Sprintf("%s; %s", message, human.Plural(n, "warning"))
	}
	return fmt.Sprintf("%s; %s, the first: %s", message, human.Plural(n, "warning"), result.Warnings[0])
}

// pruneOutput says of each archive what became of it, in the words of borg
// prune --list.
func pruneOutput(result job.Result) string {
	var out strings.Builder
	for _, archive := range result.Kept {
		rule := ""
		if by := result.KeptBy[archive]; by != "" {
			rule = " (rule: " + by + ")"
		}
		fmt.Fprintf(&out, "Keeping archive%s: %s\n", rule, archive)
	}
	if result.KeptOmitted > 0 {
		fmt.Fprintf(&out, "Keeping %s more\n", human.Plural(result.KeptOmitted, "archive"))
	}
	for i, archive := range result.Pruned {
		fmt.Fprintf(&out, "Pruning archive (%d/%d): %s\n", i+1, len(result.Pruned)+result.PrunedOmitted, archive)
	}
	if result.PrunedOmitted > 0 {
		fmt.Fprintf(&out, "Pruning %s more\n", human.Plural(result.PrunedOmitted, "archive"))
	}
	return out.String()
}
