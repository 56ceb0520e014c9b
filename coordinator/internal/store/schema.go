package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// Buckets of the file. Keys that consist of two parts are joined by a NUL.
const (
	bucketMeta              = "meta"               // schema, sequence, stream, restored
	bucketJobs              = "jobs"               // id → job
	bucketJobIndex          = "job_index"          // field NUL value NUL id → nothing
	bucketJobsFinished      = "jobs_finished"      // time of finish, id → state
	bucketJobCounts         = "job_counts"         // state NUL kind → number of jobs
	bucketIdempotency       = "idempotency"        // key → job and time
	bucketIdempotencyByJob  = "idempotency_by_job" // id NUL key → nothing
	bucketAttempts          = "attempts"           // id.attempt → attempt state
	bucketHosts             = "hosts"              // name → host
	bucketRuns              = "runs"               // host → outcomes, oldest first
	bucketRepositories      = "repositories"       // name → repository
	bucketRepositoryRecords = "repository_records" // name → record
	bucketBackups           = "backups"            // repository NUL host → summary
	bucketBackupsByHost     = "backups_by_host"    // host NUL repository → the same summary
	bucketBaselines         = "baselines"          // key → baseline
	bucketSecrets           = "secrets"            // name → ciphertext
	bucketAudit             = "audit"              // number → entry
	bucketUsers             = "users"              // name → user
	bucketLinks             = "links"              // hash → link
	bucketAPITokens         = "api_tokens"         // hash → token
	bucketSessions          = "sessions"           // hash → session
	bucketEnrolmentTokens   = "enrolment_tokens"   // hash → token
	bucketNATSCredentials   = "nats_credentials"   // public key → credentials
	bucketRevocations       = "revocations"        // public key → revocation
	bucketSealed            = "sealed"             // repository NUL host → sealed passphrase
	bucketArchives          = "archives"           // repository NUL name → archive
	bucketArchivesByTime    = "archives_by_time"   // repository NUL time of start, name → host
	bucketAsides            = "asides"             // id → what is kept beside a job
	bucketPlans             = "plans"              // name → plan
	bucketPlanCursors       = "plan_cursors"       // name → how far its schedule was followed
	bucketPlanRuns          = "plan_runs"          // id → run of a plan
	bucketPlanRunsByPlan    = "plan_runs_by_plan"  // plan NUL id → state
	bucketPlanRunsOpen      = "plan_runs_open"     // id → plan
	bucketPlanRunsUntold    = "plan_runs_untold"   // id → nothing: a run that is over, and of whose end nothing is put down to be sent
	bucketTracks            = "tracks"             // plan NUL host NUL repository → what its backups were like
	bucketAlerts            = "alerts"             // id → alert
	bucketAlertsOpen        = "alerts_open"        // key of its condition → id
	bucketTargets           = "targets"            // name → target of notifications; its address is a secret
	bucketRules             = "rules"              // name → rule of notification
	bucketSilences          = "silences"           // id → silence
	bucketDeliveries        = "deliveries"         // id → delivery
	bucketDeliveriesOpen    = "deliveries_open"    // id → what is still to be sent
	bucketManifest          = "manifest"           // what fleet.yaml said that is kept nowhere else
)

// buckets returns all of them but meta.
func buckets() []string {
	return slices.Concat(bucketsOfVersion1(), bucketsOfVersion2(), bucketsOfVersion3(), bucketsOfVersion4())
}

func bucketsOfVersion1() []string {
	return []string{
		bucketJobs, bucketJobIndex, bucketJobsFinished, bucketJobCounts, bucketIdempotency,
		bucketIdempotencyByJob, bucketAttempts, bucketHosts, bucketRuns, bucketRepositories,
		bucketRepositoryRecords, bucketBackups, bucketBackupsByHost, bucketBaselines, bucketSecrets, bucketAudit,
	}
}

// bucketsOfVersion2 are those that identities brought.
func bucketsOfVersion2() []string {
	return []string{
		bucketUsers, bucketLinks, bucketAPITokens, bucketSessions, bucketEnrolmentTokens,
		bucketNATSCredentials, bucketRevocations, bucketSealed,
	}
}

// bucketsOfVersion3 are those that all of borg's operations brought.
func bucketsOfVersion3() []string {
	return []string{bucketArchives, bucketArchivesByTime, bucketAsides}
}

// bucketsOfVersion4 are those that plans and alerts brought.
func bucketsOfVersion4() []string {
	return []string{
		bucketPlans, bucketPlanCursors, bucketPlanRuns, bucketPlanRunsByPlan, bucketPlanRunsOpen, bucketPlanRunsUntold, bucketTracks,
		bucketAlerts, bucketAlertsOpen, bucketTargets, bucketRules, bucketSilences, bucketDeliveries, bucketDeliveriesOpen, bucketManifest,
	}
}

// Keys of the meta bucket.
const (
	metaSchema   = "schema"
	metaSequence = "sequence"
	metaStream   = "stream"
	metaRestored = "restored" // JSON, unlike the numbers above
)

// migration brings the schema from the version before it to its own.
type migration func(tx *bbolt.Tx) error

// migrations returns every migration; the first makes version 1 out of an
// empty file.
func migrations() []migration {
	return []migration{
		func(tx *bbolt.Tx) error { return createBuckets(tx, bucketsOfVersion1()) },
		func(tx *bbolt.Tx) error {
			return errors.Join(createBuckets(tx, bucketsOfVersion2()), chainAudit(tx))
		},
		func(tx *bbolt.Tx) error { return createBuckets(tx, bucketsOfVersion3()) },
		func(tx *bbolt.Tx) error { return createBuckets(tx, bucketsOfVersion4()) },
	}
}

// SchemaVersion is the newest schema that this version of borgfleet knows.
func SchemaVersion() int { return len(migrations()) }

func createBuckets(tx *bbolt.Tx, names []string) error {
	for _, name := range names {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return nil
}

// migrate brings the file to the newest schema in one transaction, and returns
// the versions before and after.
func migrate(db *bbolt.DB, steps []migration) (from, to int, err error) {
	to = len(steps)
	err = db.View(func(tx *bbolt.Tx) error {
		from = int(readMeta(tx, metaSchema))
		return nil
	})
	if err != nil || from == to {
		return from, to, err
	}
	if from > to {
		return from, to, job.Fail(job.Conflict, "the database %s was written by a newer borgfleet (schema %d; this one knows %d)", db.Path(), from, to).
			WithHint("run the newer version again, or restore a snapshot from before the upgrade")
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists([]byte(bucketMeta)); err != nil {
			return fmt.Errorf("create bucket %s: %w", bucketMeta, err)
		}
		for i, step := range steps[from:] {
			if err := step(tx); err != nil {
				return fmt.Errorf("migrate to schema %d: %w", from+i+1, err)
			}
		}
		return writeMeta(tx, metaSchema, uint64(to))
	})
	return from, to, err
}

// readMeta returns a number of the meta bucket, 0 when it is not there.
func readMeta(tx *bbolt.Tx, key string) uint64 {
	bucket := tx.Bucket([]byte(bucketMeta))
	if bucket == nil {
		return 0
	}
	return number(bucket.Get([]byte(key)))
}

func writeMeta(tx *bbolt.Tx, key string, value uint64) error {
	if err := tx.Bucket([]byte(bucketMeta)).Put([]byte(key), numberBytes(value)); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// number decodes what numberBytes made; anything else is 0.
func number(data []byte) uint64 {
	if len(data) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(data)
}

// numberBytes encodes a number so that its bytes sort as it does.
func numberBytes(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// pairKey joins two parts of a key.
func pairKey(first, second string) string { return first + "\x00" + second }
