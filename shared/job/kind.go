package job

import "slices"

// Kind says what a job does. The names are borg's own where borg has one.
type Kind string

// The kinds of the contract.
const (
	Init      Kind = "init"
	Backup    Kind = "backup"
	List      Kind = "list"
	Info      Kind = "info"
	Restore   Kind = "restore"
	Delete    Kind = "delete"
	Prune     Kind = "prune"
	Compact   Kind = "compact"
	Check     Kind = "check"
	Mount     Kind = "mount"
	Umount    Kind = "umount"
	Diff      Kind = "diff"
	BreakLock Kind = "break-lock"
	Verify    Kind = "verify"
	KeyExport Kind = "key-export"
	Download  Kind = "download" // streams a file or directory of an archive to whoever asked
	// TestRestore restores a sample of an archive to see that it can be done.
	TestRestore Kind = "restore-test"
)

var kinds = []Kind{
	Init, Backup, List, Info, Restore, Delete, Prune, Compact, Check,
	Mount, Umount, Diff, BreakLock, Verify, KeyExport, Download, TestRestore,
}

// Kinds returns every kind of the contract, in its order.
func Kinds() []Kind { return slices.Clone(kinds) }

// Known reports whether k is a kind of the contract.
func (k Kind) Known() bool { return slices.Contains(kinds, k) }

// Exclusive reports whether a job of this kind must be alone on its
// repository. It mirrors borg's own locks, where list, info, mount and the
// like share, and everything else excludes even readers.
func (k Kind) Exclusive() bool {
	switch k {
	case List, Info, Restore, Mount, Umount, Diff, Verify, KeyExport, Download, TestRestore:
		return false
	default:
		return true
	}
}

// DefaultAttempts is how often a job of this kind is tried in all, if its
// submitter does not say otherwise. Only retryable failures are tried again.
func (k Kind) DefaultAttempts() int {
	switch k {
	case Backup, Prune, Compact, Check, List, Info, KeyExport, Diff, Verify, TestRestore:
		return 3
	default:
		return 1
	}
}

// NeedsRepository reports whether a job of this kind must name a repository. To
// unmount, the mount point is enough; a host can be verified by itself.
func (k Kind) NeedsRepository() bool { return k != Umount && k != Verify }

// TakesSlot reports whether a job of this kind counts against what a host, or the
// coordinator, does at a time. A mount lives as long as somebody looks into it,
// and to unmount must never wait for it.
func (k Kind) TakesSlot() bool { return k != Mount && k != Umount }

// FreesSpace reports whether a job of this kind is among those that a person asks
// for when a disk is full, to have space again.
func (k Kind) FreesSpace() bool {
	switch k {
	case Delete, Prune, Compact, BreakLock, Umount:
		return true
	default:
		return false
	}
}
