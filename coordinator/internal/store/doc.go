// Package store keeps the coordinator's state in one bbolt file.
//
// Every change goes through [Store.Apply]: a list of typed puts, deletes and
// preconditions becomes one transaction, synced to disk before Apply returns,
// and is numbered. Changes are plain data, so that the same list can later be
// replicated. Nothing else writes to the file.
//
// Jobs have secondary indexes (by state, host, repository, plan, kind and time
// of finish), which are derived inside the same transaction by comparing the
// old job with the new one; [Store.Check] proves that they agree.
//
// The audit is a chain: each entry's hash covers the one before, and
// [Store.VerifyAudit] follows it. Of passwords, tokens and links only hashes are
// stored, of passphrases only what was encrypted or sealed elsewhere.
package store
