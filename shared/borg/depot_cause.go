package borg

import (
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// What the depot says on standard error when it lets no session begin, or ends
// one.
const (
	// DepotSays begins each such line. Why follows.
	DepotSays = "borgfleet depot: "
	// DepotBusy is why, when the coordinator works on the repository itself.
	DepotBusy = "the coordinator works on this repository now"
	// DepotAddOnly is why, when a host wants to do more in an append-only repository.
	DepotAddOnly = "hosts may only add to this repository"
	// DepotClosed is why, when the coordinator ends.
	DepotClosed = "the coordinator is shutting down"
	// DepotBroken is why, when the coordinator cannot run borg.
	DepotBroken = "borg cannot be run on the coordinator"
)

// inDepot reports whether a task reaches its repository through the depot. On
// the coordinator itself the location is a path.
func (t Task) inDepot() bool {
	return strings.HasPrefix(t.Repository.Location, "ssh://") && strings.Contains(t.Repository.Location, "@"+DepotAlias+"/")
}

// depotCauses are causes that read differently when the server is the depot.
var depotCauses = map[string]cause{
	"DoesNotExist": {code: job.RepositoryMissing, message: "the coordinator's depot has {repo} in its list, but not on its disk",
		hint: "create it: borgfleet repo init {name}; if it existed before, see whether the disk of depot.path is mounted on the coordinator"},
	"PathNotAllowed": {code: job.PermissionDenied, message: "the coordinator's depot gives {host} another repository than {repo}: {said}", hint: hintAllow},
	"StorageQuotaExceeded": {code: job.QuotaExceeded, message: "{repo} has reached its quota in the coordinator's depot: {said}",
		hint: "make room: borgfleet repo prune {name} and borgfleet repo compact {name}; or give it a larger quota"},
	"InsufficientFreeSpaceError": {code: job.DiskFull, message: "the disk of the coordinator's depot has no room for {repo}: {said}",
		hint: "make room on the disk of depot.path on the coordinator: prune, then compact, or add a disk"},
	"LockFailed": {code: job.PermissionDenied, message: "the coordinator's depot may not write to {repo}: {said}",
		hint: "give the coordinator's user all of depot.path; see also whether that disk was remounted read-only"},
}

const hintAllow = "let the host use it: borgfleet repo allow {name} {host}; borgfleet repo show {name} says who may"

// depotWords are the depot's own, after [DepotSays]. The last one is for all
// that is left.
var depotWords = []sign{
	{[]string{DepotBusy}, cause{code: job.RepositoryLocked,
		message: "the coordinator works on {repo} itself, and lets nobody else use it meanwhile",
		hint:    "wait until that job is over; borgfleet job list --repo {name} shows it"}},
	{[]string{DepotClosed}, cause{code: job.ConnectionLost,
		message: "the coordinator, which keeps {repo}, was shutting down", hint: hintConnection}},
	{[]string{DepotBroken}, cause{code: job.BorgMissing,
		message: "the coordinator's depot has no borg that works: {said}",
		hint:    "install borg on the coordinator, or say where it is with depot.borg in coordinator.yaml; its log says more"}},
	{[]string{DepotAddOnly}, notAdding},
	{[]string{""}, notAdmitted},
}

var (
	notAdmitted = cause{code: job.PermissionDenied,
		message: "the coordinator's depot does not let {host} use {repo}: {said}",
		hint:    hintAllow + "; if it may, the coordinator has another key of {host}: borgfleet-agent rotate there, or borgfleet host verify {host}"}
	notAdding = cause{code: job.PermissionDenied,
		message: "{repo} is append-only for hosts, and {host} wanted to do more than to add: {said}",
		hint:    "have the coordinator do it: it deletes, prunes, compacts and repairs in its depot itself; if you did not ask for this, find out who did on {host}"}
)

// depotSaid finds the depot's own words, by which it ends a session whatever
// borg makes of that.
func (p *Parser) depotSaid() (why cause, said string, found bool) {
	if !p.task.inDepot() {
		return cause{}, "", false
	}
	for _, line := range slices.Backward(p.facts.remote) {
		said, found = strings.CutPrefix(line, DepotSays)
		if !found {
			continue
		}
		for _, sign := range depotWords {
			if sign.in(said) {
				return sign.cause, said, true
			}
		}
	}
	return cause{}, "", false
}

// depotSigns are what ssh says on the way to the depot; before remoteSigns.
var depotSigns = []sign{
	{[]string{"Permission denied", "Too many authentication failures"}, notAdmitted},
	{[]string{"REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed", "host key is known for"}, cause{code: job.HostKeyChanged,
		message: "what {host} reaches as the coordinator's depot does not have the depot's key: {said}",
		hint:    "see whether depot.address in coordinator.yaml leads to the coordinator; borgfleet depot show has the right fingerprint; otherwise somebody may be in between"}},
	{[]string{"Could not resolve hostname"}, cause{code: job.HostUnreachable,
		message: "{host} cannot resolve the name of the coordinator's depot: {said}",
		hint:    "set depot.address in coordinator.yaml to a name that hosts know, or mend the name service of {host}"}},
	{[]string{"Connection refused", "No route to host", "Network is unreachable", "timed out"}, cause{code: job.HostUnreachable,
		message: "{host} cannot reach the coordinator's depot: {said}",
		hint:    "see depot.listen and depot.address in coordinator.yaml, and the firewalls in between; a host over SSH may use the tunnel: borgfleet host set {host} --reach tunnel"}},
}

// depotExceptions classify errors without an id of their own, before
// exceptionSigns.
var depotExceptions = []sign{
	{[]string{"append-only"}, notAdding},
	{[]string{"No space left on device", "[Errno 28]"}, cause{code: job.DiskFull,
		message: "a disk is full while borg works on {repo}: {said}",
		hint:    "see which it is: that of depot.path on the coordinator, or borg's cache on {host}; prune and compact make room in the depot"}},
}
