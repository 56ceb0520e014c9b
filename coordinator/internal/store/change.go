package store

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Change is one step of a transaction: a put, a delete or a precondition. It is
// plain data. Changes are applied in the order given, and each sees those
// before it.
type Change interface {
	apply(tx *transaction) error
}

// CreateJob stores a new job; [ErrExists] if its id is taken. It may have any
// state: what is taken in of a job that another life of this database knew
// begins where that has left it.
func CreateJob(j job.Job) Change { return jobPut{job: j, create: true} }

// PutJob stores a job, new or not. Its progress is not stored. A terminal state
// is never changed: [ErrTerminal]. Other states change only as the state table
// says, see [job.State.CanBecome]: [ErrIllegal].
func PutJob(j job.Job) Change { return jobPut{job: j} }

// DeleteJob removes a job with its idempotency keys and attempt states.
func DeleteJob(id job.ID) Change { return jobDelete{id: id} }

// CreateHost stores a new host; [ErrExists] if the name is taken.
func CreateHost(h fleet.Host) Change {
	return recordPut{bucket: bucketHosts, key: h.Name, value: h, create: true}
}

// PutHost stores a host, new or not.
func PutHost(h fleet.Host) Change { return recordPut{bucket: bucketHosts, key: h.Name, value: h} }

// SetHostFacts stores what a host said of itself. A host that is not there, as
// it was removed meanwhile, is left so.
func SetHostFacts(name string, facts fleet.Facts, sealKey string) Change {
	return factsSet{name: name, facts: facts, sealKey: sealKey}
}

// DeleteHost removes a host with the outcomes of its last backups, the
// passphrases that were sealed to it, its enrolment tokens and its place in the
// depot's allow-lists; its jobs and its backups' summaries stay with their
// repositories. [ErrMissing] if there is no such host.
func DeleteHost(name string) Change { return hostDelete{name: name} }

// CreateRepository stores a new repository; [ErrExists] if the name is taken.
func CreateRepository(r fleet.Repository) Change {
	return recordPut{bucket: bucketRepositories, key: r.Name, value: r, create: true}
}

// PutRepository stores a repository, new or not. That it is frozen, or not, is
// left as it is: see [SetFrozen].
func PutRepository(r fleet.Repository) Change { return repositoryPut{repository: r} }

// SetFrozen freezes a repository in the depot, or with null lets it go. Any other
// repository is left as it is.
func SetFrozen(name string, frozen *fleet.Frozen) Change {
	return frozenSet{name: name, frozen: frozen}
}

// DeleteRepository removes a repository with its record, its sealed passphrases,
// what is known of its archives and the summaries of its backups; its jobs stay. [ErrMissing] if there is no such repository.
func DeleteRepository(name string) Change { return repositoryDelete{name: name} }

// PutRepositoryRecord stores what is known about a repository.
func PutRepositoryRecord(name string, r RepositoryRecord) Change {
	return recordPut{bucket: bucketRepositoryRecords, key: name, value: r}
}

// PutSecret stores an encrypted secret under a name.
func PutSecret(name string, ciphertext []byte) Change {
	return recordPut{bucket: bucketSecrets, key: name, value: ciphertext}
}

// DeleteSecret removes a secret, if it is there.
func DeleteSecret(name string) Change { return recordDelete{bucket: bucketSecrets, key: name} }

// PutIdempotency makes key stand for a job; [ErrExists] if it stands for
// another one.
func PutIdempotency(key string, id job.ID, at time.Time) Change {
	return idempotencyPut{key: key, record: idempotencyRecord{Job: id, At: at}}
}

// PutBaseline stores what the next backup under this key is measured against.
func PutBaseline(key string, b job.Baseline) Change {
	return recordPut{bucket: bucketBaselines, key: key, value: b}
}

// PutAttemptState stores an attempt's state.
func PutAttemptState(a AttemptState) Change {
	return recordPut{bucket: bucketAttempts, key: a.Job.AttemptID(a.Attempt), value: a}
}

// DeleteAttemptState removes an attempt's state, if it is there.
func DeleteAttemptState(id job.ID, attempt int) Change {
	return recordDelete{bucket: bucketAttempts, key: id.AttemptID(attempt)}
}

// PutBackupSummary stores the newest good backup of its host and repository.
func PutBackupSummary(b fleet.BackupSummary) Change {
	return backupPut{summary: b}
}

// AppendRun adds the outcome of a backup to the last [MaxRuns] of a host.
func AppendRun(host string, outcome job.State) Change { return runAppend{host: host, outcome: outcome} }

// SetStreamPosition records that the events stream is stored up to this
// sequence number. It only grows: a smaller number changes nothing. It says
// where to go on reading, and must not be used to discard events, as a stream
// that was made anew counts from 1; repeats are known by attempt and number.
func SetStreamPosition(sequence uint64) Change { return positionSet{sequence: sequence} }

// AppendAudit adds an entry to the audit. The store sets its number, and its
// hash, which covers the entry before: see [Store.VerifyAudit].
func AppendAudit(entry fleet.AuditEntry) Change { return auditAppend{entry: entry} }

// RequireHost is a precondition: [ErrMissing] if there is no such host.
func RequireHost(name string) Change { return recordRequire{bucket: bucketHosts, key: name} }

// RequireRepository is a precondition: [ErrMissing] if there is no such
// repository.
func RequireRepository(name string) Change {
	return recordRequire{bucket: bucketRepositories, key: name}
}

// RequireNoOpenJobs is a precondition: [ErrOpenJobs] if a job that is not
// terminal belongs to the host (when given) and the repository (when given).
func RequireNoOpenJobs(host, repository string) Change {
	return noOpenJobs{host: host, repository: repository}
}
