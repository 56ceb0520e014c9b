// Package state makes copies of all that a coordinator cannot do without, while
// it runs, and puts one back.
//
// A copy is a tar archive, compressed with zstd, encrypted with age when it has
// a recipient. Its last entry is the manifest, with the SHA-256 of every file,
// so that a copy that was cut short is never taken for a whole one.
//
// # What is restored how
//
// [Open] unpacks a copy beside the present state, checks every file against the
// manifest, opens and checks the database, and brings it to this version's
// schema. Until then nothing that a coordinator reads has changed, and a crash
// leaves the old state.
//
// [Restoration.Apply] then writes down what it is about to do, in one file, and
// does it: each part of the old state is moved to before-restore-<time>, and the
// new one takes its place; the database comes last. From when that file is there
// until it is gone a coordinator refuses to start ([Whole]), and [Finish] ends
// what a crash has cut short. Nothing of the old state is ever deleted.
//
// The stream of events is younger than the copy, and holds what hosts have told
// since; so it stays when the bus has the same keys, and the coordinator reads it
// again from where the copy ends. Under other keys it would be another bus's:
// then it is moved aside, too. Revocations are never taken back: those of the
// copy and those that lie there are joined.
//
// A restored database says so ([store.Restored]), and its audit has an entry of
// it, which continues the copy's chain.
package state

import "slices"

// What lies in a data directory.
const (
	DatabaseFile = "borgfleet.db" // locked while a coordinator runs
	KeyFile      = "secrets.key"  // opens the secrets in the database
	BusDir       = "bus"          // keys, revocations and the stream of events
	TLSDir       = "tls"          // the authority that hosts trust, and the server's certificate
	LogsDir      = "logs"         // of jobs
	BorgDir      = "borg"         // what borg keeps on this machine, for the depot

	DepotKeyFile = "depot_host_key" // with which the depot proves itself
	HostIDFile   = "host-id"        // by which borg's locks know this machine
)

const (
	busKeysDir   = BusDir + "/keys"
	streamDir    = BusDir + "/store"
	manifestFile = "manifest.json"
	format       = 1 // of a copy
)

// keyPatterns choose what the bus is known by.
func keyPatterns() []string {
	return []string{busKeysDir + "/*.nk", busKeysDir + "/generation", BusDir + "/*.nk"}
}

// borgKeyPattern chooses borg's keys for those repositories in the depot that do
// not hold them. They are never moved out of the way but by the same one.
const borgKeyPattern = BorgDir + "/.config/borg/keys/*"

const revocationPattern = BusDir + "/revoked*.json"

// logPatterns choose the logs of jobs: plain ones of open jobs, and compressed
// ones.
func logPatterns() []string {
	return []string{LogsDir + "/??/*" + plainLog, LogsDir + "/??/*" + packedLog}
}

const (
	plainLog  = ".jsonl"
	packedLog = ".jsonl.zst"
)

// patterns choose all that a copy may hold. The listings of archives are not
// among it: they are large, and a job of kind list makes them again. Nor are the
// journals of hosts without an agent: one that is missing, or older than what runs
// there, is to the coordinator as a host that has lost its own.
func patterns() []string {
	all := append([]string{DatabaseFile, KeyFile, TLSDir + "/*.pem", revocationPattern}, keyPatterns()...)
	return slices.Concat(all, []string{DepotKeyFile, HostIDFile, borgKeyPattern}, logPatterns())
}
