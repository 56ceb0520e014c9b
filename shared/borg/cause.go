package borg

import "github.com/borgfleet/borgfleet/shared/job"

// cause is what one of borg's errors means to a person. The texts may name
// {repo}, {name} (the repository's alone), {location}, {archive}, {target}, {hook}, {host}, {borg} (its version), and {said}:
// borg's own words, without a full stop.
type cause struct {
	code    job.Code
	message string
	hint    string
	final   bool // not retryable, although its code is
}

// causes maps the last component of borg's message ids (the same in 1.2 and
// 1.4). Where that is ambiguous, the whole id goes first.
var causes = map[string]cause{
	// The repository itself.
	"DoesNotExist": {code: job.RepositoryMissing, message: "there is no repository at {location} ({repo})",
		hint: "create it: borgfleet repo init {name} --host {host}; if it existed before, see whether its disk is mounted on {host} or on the repository's server; if it was moved: borgfleet repo move {name} --location NEW"},
	"ParentPathDoesNotExist": {code: job.RepositoryMissing, message: "the directory that {repo} is to be created in does not exist: {location}",
		hint: "create the parent directory, or mount its disk; borgfleet does not create it, since a backup on an unmounted disk's mount point fills the wrong disk"},
	"AlreadyExists": {code: job.RepositoryExists, message: "there already is a repository at {location}",
		hint: "{repo} needs no init; if it is another fleet's repository, give {repo} another location"},
	"PathAlreadyExists": {code: job.RepositoryExists, message: "{repo} cannot be created: there is something else at {location}",
		hint: "give {repo} another location, or move away what is there"},
	"InvalidRepository": {code: job.RepositoryInvalid, message: "what is at {location} is not a borg repository ({repo})",
		hint: "check the location of {repo}; a half-finished init leaves such a directory, which may be removed when it is empty of data"},
	"InvalidRepositoryConfig": {code: job.RepositoryInvalid, message: "the config file of {repo} is not usable: {said}",
		hint: "look at the file config in {location}; restore it from a copy if it was damaged"},
	"AtticRepository": {code: job.RepositoryInvalid, message: "{repo} is an Attic repository, which borg {borg} cannot use",
		hint: "convert it with an old borg's `borg upgrade`, or give {repo} a new location"},
	"PathPermissionDenied": {code: job.PermissionDenied, message: "borg may not read or write {repo} at {location}",
		hint: "give borg's user on {host}, or the ssh user on the server, the rights to that directory"},
	"CheckNeeded": {code: job.IntegrityError, message: "{repo} is inconsistent: {said}",
		hint: "stop prune and compact on {repo}, look at the server's disk, and look what is left: borgfleet repo check {name} --host {host}"},
	"ObjectNotFound": {code: job.IntegrityError, message: "{repo} lacks data that it should have: {said}", hint: hintDamage},
	"InsufficientFreeSpaceError": {code: job.DiskFull, message: "there is not enough free space for {repo}: {said}",
		hint: "free space on the disk of {location}: prune, then compact, or add room"},
	"StorageQuotaExceeded": {code: job.QuotaExceeded, message: "{repo} has reached its storage quota: {said}",
		hint: "prune and compact {repo}, or raise the quota on its server"},
	// Manifest and archives.
	"MandatoryFeatureUnsupported": {code: job.RepositoryInvalid, message: "{repo} needs a newer borg than {borg}: {said}",
		hint: "upgrade borg on {host}"},
	"NoManifestError": {code: job.IntegrityError, message: "{repo} has no manifest, so borg cannot find its archives",
		hint: "stop all work on {repo}, and keep a copy of it; then make the manifest anew: borgfleet repo check {name} --host {host} --repair"},
	"UnsupportedManifestError": {code: job.RepositoryInvalid, message: "borg {borg} cannot read the manifest of {repo}",
		hint: "upgrade borg on {host}"},
	"Archive.AlreadyExists": {code: job.ArchiveExists, message: "{repo} already has an archive of this name: {said}",
		hint: "choose another archive name, or leave it out so that borgfleet makes one from the time"},
	"Archive.DoesNotExist": {code: job.ArchiveMissing, message: "{repo} has no such archive: {said}",
		hint: "borgfleet archive list {name} --host {host} shows which there are; it may have been pruned"},
	"IncompatibleFilesystemEncodingError": {code: job.Internal, message: "borg cannot write a file name in this locale: {said}",
		hint: "see that the locale C.UTF-8 works on {host}"},
	// Keys and passphrases.
	"PassphraseWrong": {code: job.PassphraseWrong, message: "the passphrase for {repo} is wrong",
		hint: "give borgfleet the passphrase that {repo} was created with; if it was changed with `borg key change-passphrase`, give the new one"},
	"NoPassphraseFailure": {code: job.PassphraseWrong, message: "{repo} needs a passphrase, and none was given",
		hint: "{repo} is encrypted: set its passphrase and its encryption mode in borgfleet"},
	"PasscommandFailure": {code: job.PassphraseWrong, message: "the command that gives the passphrase of {repo} did not work",
		hint: "unset BORG_PASSCOMMAND on {host}: borgfleet hands the passphrase over itself"},
	"PasswordRetriesExceeded": {code: job.PassphraseWrong, message: "the passphrase for {repo} was refused too often",
		hint: "give borgfleet the passphrase that {repo} was created with"},
	"KeyfileNotFoundError": {code: job.KeyMissing, message: "{host} has no key file for {repo}",
		hint: "put the key file into the keys directory under borg's base directory on {host} (`borg key import`), or use a repokey mode"},
	"KeyfileInvalidError": {code: job.KeyMissing, message: "the key file for {repo} on {host} is damaged",
		hint: "import the key again from a backup of it (`borg key import`)"},
	"KeyfileMismatchError": {code: job.KeyMissing, message: "the key file on {host} is not the one of {repo}",
		hint: "import the key of {repo} (`borg key import`)"},
	"NotABorgKeyFile": {code: job.KeyMissing, message: "what was given as the key of {repo} is not a key of borg's",
		hint: "take the file that `borg key export`, or a key-export job, has made"},
	"RepoIdMismatch": {code: job.KeyMissing, message: "the key that was given is not the one of {repo}",
		hint: "take the export of the key of {repo}"},
	"RepoKeyNotFoundError": {code: job.KeyMissing, message: "there is no key inside {repo}",
		hint: "import it from a backup of the key (`borg key import`); without the key the data cannot be read"},
	"UnencryptedRepo": {code: job.InvalidSpec, message: "{repo} is not encrypted: it has no key to export",
		hint: "register {repo} in borgfleet with encryption none"},
	"UnknownKeyType": {code: job.RepositoryInvalid, message: "borg {borg} does not know the encryption of {repo}",
		hint: "upgrade borg on {host}"},
	"UnsupportedPayloadError": {code: job.RepositoryInvalid, message: "borg {borg} does not know the encryption of {repo}: {said}",
		hint: "upgrade borg on {host}"},
	// What borg remembers of a repository, to protect from a swapped one.
	"CacheInitAbortedError": {code: job.RefusedByHost, message: "borg on {host} does not know {repo}, and it is not encrypted though borgfleet has it as encrypted",
		hint: "find out whether somebody replaced {repo}; if it really is unencrypted, register it with encryption none"},
	"EncryptionMethodMismatch": {code: job.RefusedByHost, message: "the encryption of {repo} is not what it was when {host} last used it",
		hint: "find out whether somebody replaced {repo}; if you did, remove its entry under security in borg's base directory on {host}"},
	"RepositoryAccessAborted": {code: job.RefusedByHost, message: "{host} knew {repo} at another location, and borg does not follow unasked: {location}",
		hint: "if you moved it: borgfleet host verify {host} --repo {name} --accept-moved; otherwise find out who put it there"},
	"RepositoryIDNotUnique": {code: job.RefusedByHost, message: "{repo} has the same id as another repository that {host} knows",
		hint: "a repository was copied: use only one of the copies, or give the copy another id with `borg config`"},
	"RepositoryReplay": {code: job.RefusedByHost, message: "{repo} is older than when {host} last used it",
		hint: "if you restored it from a copy, or rolled it back: borgfleet host verify {host} --repo {name} --accept-older; otherwise find out who did: archives are missing"},
	// What our own scripts say.
	"TargetNames": {code: job.InvalidSpec, message: "files in {target} on {host} cannot be kept: there is {said}",
		hint: "restore to an empty directory, or rename that file: borg could not be told to leave it as it is; nothing was restored"},
	"TargetUnreadable": {code: job.PermissionDenied, message: "files in {target} on {host} cannot be kept: {said}",
		hint: "restore to an empty directory, or give the agent's user the right to read all of it; nothing was restored"},
	// Locks.
	"LockTimeout": {code: job.RepositoryLocked, message: "{repo} is locked by another borg, and stayed so while we waited",
		hint: "see who else uses {repo}; if that process died, the lock may be broken: borgfleet repo break-lock {name} --host {host}"},
	"LockError":  {code: job.RepositoryLocked, message: "the lock of {repo} could not be taken: {said}", hint: "see who else uses {repo}"},
	"LockErrorT": {code: job.RepositoryLocked, message: "the lock of {repo} could not be taken: {said}", hint: "see who else uses {repo}"},
	"NotLocked":  {code: job.RepositoryLocked, message: "somebody broke the lock of {repo} while borg worked", hint: "never break the lock of a running borg; see what it did: borgfleet repo check {name} --host {host}"},
	"NotMyLock":  {code: job.RepositoryLocked, message: "somebody broke the lock of {repo} while borg worked", hint: "never break the lock of a running borg; see what it did: borgfleet repo check {name} --host {host}"},
	"LockFailed": {code: job.PermissionDenied, message: "borg may not write to {repo}, and so cannot lock it: {said}",
		hint: "give borg's user on {host}, or the ssh user on the server, write access to {location}; even a listing needs it"},
	// The connection.
	"ConnectionClosed": {code: job.ConnectionLost, message: "the connection to {repo} broke", hint: hintConnection},
	"ConnectionClosedWithHint": {code: job.ConnectionLost, message: "the server of {repo} closed the connection before borg could work: {said}",
		hint: "try from {host}, as borg's user: ssh -oBatchMode=yes SERVER borg --version"},
	"ConnectionBrokenWithHint": {code: job.ConnectionLost, message: "the connection to {repo} broke: {said}", hint: hintConnection},
	"PathNotAllowed": {code: job.PermissionDenied, message: "the server of {repo} does not allow this path: {said}",
		hint: "compare {location} with --restrict-to-path or --restrict-to-repository in the server's authorized_keys"},
	"InvalidRPCMethod":                  {code: job.BorgUnsupported, message: "the borg on the server of {repo} is too different from ours", hint: "install the same series of borg there and on {host}"},
	"RPCServerOutdated":                 {code: job.BorgUnsupported, message: "the borg on the server of {repo} is too old: {said}", hint: "upgrade borg on the server"},
	"UnexpectedRPCDataFormatFromClient": {code: job.BorgUnsupported, message: "the borg on the server of {repo} does not understand ours", hint: "install the same series of borg there and on {host}"},
	"UnexpectedRPCDataFormatFromServer": {code: job.ConnectionLost, message: "the server of {repo} printed something that is not borg's: {said}", hint: "a login message or a shell's start file prints text on the server: it must be silent for ssh commands", final: true},
	"IntegrityError":                    {code: job.IntegrityError, message: "borg found damaged data in {repo}: {said}", hint: hintDamage},
	"DecompressionError":                {code: job.IntegrityError, message: "borg found damaged data in {repo}: {said}", hint: hintDamage},
	"FileIntegrityError":                {code: job.IntegrityError, message: "a file of borg's is damaged: {said}", hint: "if it is in the cache on {host}: borgfleet host verify {host} --repo {name} --rebuild-cache, by which nothing is lost; if it is in the repository: borgfleet repo check {name} --host {host}"},
	"ArchiveTAMInvalid":                 {code: job.IntegrityError, message: "an archive in {repo} is not authentic: {said}", hint: hintAuthentic},
	"ArchiveTAMRequiredError":           {code: job.IntegrityError, message: "an archive in {repo} is not authenticated: {said}", hint: hintAuthentic},
	"TAMInvalid":                        {code: job.IntegrityError, message: "the manifest of {repo} is not authentic", hint: hintAuthentic},
	"TAMRequiredError":                  {code: job.IntegrityError, message: "the manifest of {repo} is not authenticated", hint: hintAuthentic},
	"TAMUnsupportedSuiteError":          {code: job.RepositoryInvalid, message: "borg {borg} cannot verify the manifest of {repo}", hint: "upgrade borg on {host}"},
	// Arguments.
	"CancelledByUser":    {code: job.RefusedByHost, message: "borg asked whether to go on with {repo}, and nobody answers there: {said}", hint: "see the question in the log, and answer it once by hand on {host}"},
	"CommandError":       {code: job.InvalidSpec, message: "borg did not accept the order: {said}", hint: hintArguments},
	"PlaceholderError":   {code: job.InvalidSpec, message: "borg could not fill in a placeholder: {said}", hint: hintPlaceholder},
	"InvalidPlaceholder": {code: job.InvalidSpec, message: "borg does not know a placeholder: {said}", hint: hintPlaceholder},
}

const (
	hintConnection  = "see the network and the server; a backup goes on from its last checkpoint at the next try"
	hintDamage      = "stop prune and compact on {repo}, look at the disk's and the memory's health on its server, and see what is damaged: borgfleet repo check {name} --host {host} --verify-data"
	hintAuthentic   = "find out whether somebody tampered with {repo}; if it comes from a borg before 1.0.9 or 1.2.5, see `borg upgrade` in borg's change log"
	hintArguments   = "correct what was asked for; borg's own words are in the log"
	hintPlaceholder = "see `borg help placeholders`; write {{ and }} for braces in an archive's name"
)

// modernCodes maps the exit codes of BORG_EXIT_CODES=modern (1.4.5) to message
// ids, for the case that no message came through.
var modernCodes = map[int]string{
	3: "CancelledByUser", 4: "CommandError", 5: "PlaceholderError", 6: "InvalidPlaceholder",
	10: "Repository.AlreadyExists", 11: "AtticRepository", 12: "CheckNeeded", 13: "Repository.DoesNotExist",
	14: "InsufficientFreeSpaceError", 15: "InvalidRepository", 16: "InvalidRepositoryConfig", 17: "ObjectNotFound",
	18: "ParentPathDoesNotExist", 19: "PathAlreadyExists", 20: "StorageQuotaExceeded", 21: "PathPermissionDenied",
	25: "MandatoryFeatureUnsupported", 26: "NoManifestError", 27: "UnsupportedManifestError",
	30: "Archive.AlreadyExists", 31: "Archive.DoesNotExist", 32: "IncompatibleFilesystemEncodingError",
	40: "KeyfileInvalidError", 41: "KeyfileMismatchError", 42: "KeyfileNotFoundError", 43: "NotABorgKeyFile", 44: "RepoKeyNotFoundError",
	45: "RepoIdMismatch", 46: "UnencryptedRepo", 47: "UnknownKeyType", 48: "UnsupportedPayloadError",
	50: "NoPassphraseFailure", 51: "PasscommandFailure", 52: "PassphraseWrong", 53: "PasswordRetriesExceeded",
	60: "CacheInitAbortedError", 61: "EncryptionMethodMismatch", 62: "RepositoryAccessAborted",
	63: "RepositoryIDNotUnique", 64: "RepositoryReplay",
	70: "LockError", 71: "LockErrorT", 72: "LockFailed", 73: "LockTimeout", 74: "NotLocked", 75: "NotMyLock",
	80: "ConnectionClosed", 81: "ConnectionClosedWithHint", 82: "InvalidRPCMethod", 83: "PathNotAllowed",
	84: "RPCServerOutdated", 85: "UnexpectedRPCDataFormatFromClient", 86: "UnexpectedRPCDataFormatFromServer",
	87: "ConnectionBrokenWithHint", 90: "IntegrityError", 91: "FileIntegrityError", 92: "DecompressionError",
	95: "ArchiveTAMInvalid", 96: "ArchiveTAMRequiredError", 97: "TAMInvalid", 98: "TAMRequiredError", 99: "TAMUnsupportedSuiteError",
}

// sign is a cause that is recognised by what a text contains.
type sign struct {
	texts []string // any of them
	cause cause
}

// remoteSigns classify what ssh or the server's shell said before the
// connection was closed.
var remoteSigns = []sign{
	{[]string{"REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed", "host key is known for"}, cause{code: job.HostKeyChanged,
		message: "ssh on {host} does not trust the key of the server of {repo}: {said}",
		hint:    "if the server is new or was reinstalled, compare its key with the one it shows itself (ssh-keygen -lf on the server), then correct known_hosts of borg's user on {host}; otherwise somebody may be in between"}},
	{[]string{"Permission denied", "Too many authentication failures"}, cause{code: job.PermissionDenied,
		message: "the server of {repo} does not let {host} in: {said}",
		hint:    "put the public key of borg's user on {host} into authorized_keys on the server; ssh cannot ask for a password here"}},
	{[]string{"Could not resolve hostname"}, cause{code: job.HostUnreachable,
		message: "{host} cannot resolve the name of the server of {repo}: {said}",
		hint:    "check the server's name in {location} and the name service of {host}"}},
	{[]string{"Connection refused", "No route to host", "Network is unreachable", "timed out"}, cause{code: job.HostUnreachable,
		message: "{host} cannot reach the server of {repo}: {said}",
		hint:    "check that the server is up, its ssh port, and the firewalls in between"}},
	{[]string{"not found", "No such file or directory"}, cause{code: job.BorgMissing,
		message: "there is no borg on the server of {repo}: {said}",
		hint:    "install borg on the server, or say where it is with the agent's borg.remote_path setting"}},
	{[]string{"Connection closed by", "Connection reset by", "kex_exchange_identification", "Broken pipe"}, cause{code: job.ConnectionLost,
		message: "the server of {repo} closed the connection: {said}",
		hint:    hintConnection}},
}

// exceptionSigns classify an error of borg's that has no id of its own, by the
// last line of its traceback or by its words.
var exceptionSigns = []sign{
	{[]string{"does not look like a Borg cache"}, cause{code: job.IntegrityError,
		message: "borg's cache of {repo} on {host} is damaged, as a power cut or a failed disk leaves it: {said}",
		hint:    "borgfleet host verify {host} --repo {name} --rebuild-cache: borg makes its cache anew, and nothing is lost"}},
	{[]string{"configparser."}, cause{code: job.RepositoryInvalid,
		message: "the config file of {repo} is not usable: {said}",
		hint:    "look at the file config in {location}; restore it from a copy if it was damaged"}},
	{[]string{"No space left on device", "[Errno 28]"}, cause{code: job.DiskFull,
		message: "a disk is full while borg works on {repo}: {said}",
		hint:    "see which it is: the disk of {location}, or borg's cache on {host}; prune and compact free space in the repository"}},
	{[]string{"Disk quota exceeded", "[Errno 122]"}, cause{code: job.QuotaExceeded,
		message: "a disk quota is used up while borg works on {repo}: {said}",
		hint:    "raise the quota of borg's user, or prune and compact {repo}"}},
	{[]string{"BrokenPipeError", "ConnectionResetError", "Broken pipe", "[Errno 32]", "[Errno 104]"}, cause{code: job.ConnectionLost,
		message: "the connection to {repo} broke in the middle of the work", hint: hintConnection}},
	{[]string{"Read-only file system", "[Errno 30]"}, cause{code: job.PermissionDenied,
		message: "borg met a read-only file system while working on {repo}: {said}",
		hint:    "see whether the disk was remounted read-only after errors; borg must write to {location} and to its cache on {host}"}},
	{[]string{"PermissionError", "Permission denied", "[Errno 13]", "Operation not permitted"}, cause{code: job.PermissionDenied,
		message: "borg may not do what the job needs: {said}",
		hint:    "give borg's user on {host} the rights to {location} and to its cache directory"}},
	{[]string{"Input/output error", "[Errno 5]"}, cause{code: job.IntegrityError,
		message: "a disk reported an error while borg worked on {repo}: {said}",
		hint:    "look at the kernel's log of {host} and of the repository's server: a disk may be dying"}},
	{[]string{"MemoryError", "Cannot allocate memory"}, cause{code: job.Internal,
		message: "borg ran out of memory on {host}",
		hint:    "free memory on {host}, or give it more"}},
	{[]string{"append-only"}, cause{code: job.PermissionDenied,
		message: "{repo} is append-only, and this needs more: {said}",
		hint:    "run it where the repository is kept, without append-only"}},
}

// badPattern is how Python ends over a pattern, while borg still reads its
// arguments.
var badPattern = sign{[]string{"re.error: ", "PatternError: ", "pattern style"}, cause{code: job.InvalidSpec,
	message: "borg does not understand a pattern: {said}",
	hint:    "correct what is excluded; after re: comes a regular expression as Python has them, and fm: or sh: takes a shell's"}}

// restoreSigns classify a warning after which a restore is not what was asked
// for: borg tells each file that it could not write, and goes on.
var restoreSigns = []sign{
	{[]string{"[Errno 28]"}, cause{code: job.DiskFull,
		message: "the disk of {target} on {host} is full: {said}",
		hint:    "free space there, or restore to another disk; what is in {target} is incomplete"}},
	{[]string{"[Errno 122]"}, cause{code: job.QuotaExceeded,
		message: "a disk quota for {target} on {host} is used up: {said}",
		hint:    "raise the quota of borg's user; what is in {target} is incomplete"}},
	{[]string{"[Errno 30]"}, cause{code: job.PermissionDenied,
		message: "{target} on {host} is on a read-only file system: {said}",
		hint:    "see whether the disk was remounted read-only after errors, or restore to another directory"}},
	{[]string{"[Errno 5]"}, cause{code: job.IntegrityError,
		message: "a disk of {host} reported an error while borg wrote to {target}: {said}",
		hint:    "look at the kernel's log of {host}: a disk may be dying; restore to another one"}},
	{[]string{"damaged (all-zero) chunks", "Size inconsistency detected"}, cause{code: job.IntegrityError,
		message: "{repo} lacks data of what was restored: {said}",
		hint:    "a file named in the warnings is not what was backed up; take it from another archive, and see what else is damaged: borgfleet repo check {name} --host {host} --verify-data"}},
}

var (
	noClient = cause{code: job.HostUnreachable, final: true, message: "borg could not start ssh on {host}: {said}",
		hint: "install the OpenSSH client on {host}, or correct the agent's borg.rsh setting"}
	brokenBorg = cause{code: job.BorgMissing, message: "borg's installation on {host} is broken: {said}",
		hint: "install borg again on {host}, for example after its Python was upgraded; `borg --version` there shows whether it works"}
	noPassphrase = cause{code: job.Internal, message: "the passphrase of {repo} did not reach borg: {said}",
		hint: "this is a fault of borgfleet; the agent's log may say more"}
	refusedArguments = cause{code: job.InvalidSpec, message: "borg did not accept its arguments: {said}", hint: hintArguments}
	unknownCause     = cause{code: job.Internal, message: "borg ended with exit code {exit}: {said}",
		hint: "borg's own words are in the log"}
	damaged = cause{code: job.IntegrityError, message: "the check found damage in {repo}: {said}",
		hint: "stop prune and compact on {repo}, look at the disk of its server, and keep a copy of it; then mend what can be mended: borgfleet repo check {name} --host {host} --repair; new backups from hosts that still have the data can heal it"}
	pathsMissing = cause{code: job.PathMissing, message: "nothing was backed up: none of the paths exists on {host}: {said}",
		hint: "correct the paths, or mount what they are on; borg left an empty archive {archive} in {repo}"}
	pathsDenied = cause{code: job.PermissionDenied, message: "nothing was backed up: borg may not read any of the paths: {said}",
		hint: "run the agent as a user who may read them; borg left an empty archive {archive} in {repo}"}
	notInArchive = cause{code: job.PathMissing, message: "nothing was restored: archive {archive} has none of the paths: {said}",
		hint: "give paths as the archive has them, for example etc/hosts, or leave them out to restore everything; exclude patterns may leave nothing of them"}
	notDownloaded = cause{code: job.PathMissing, message: "archive {archive} has no {said}",
		hint: "give the path as the archive has it, for example etc/hosts: borgfleet archive files {name} {archive} --host {host} shows what there is"}
	notCompared = cause{code: job.PathMissing, message: "neither of the archives has any of the paths: {said}",
		hint: "give paths as the archives have them, for example etc/hosts, or leave them out to compare everything"}
	noSuchArchives = cause{code: job.ArchiveMissing, message: "nothing was deleted in {repo}: {said}",
		hint: "borgfleet archive list {name} --host {host} shows which there are; they may have been deleted or pruned before"}
	hookFailed = cause{code: job.HookFailed, message: "the script {hook} on {host} failed, so nothing was backed up: {said}",
		hint: "see its words in the log, and run it by hand on {host} as the agent's user; it must end with exit code 0"}
	noReader = cause{code: job.ConnectionLost, message: "whoever read from archive {archive} went away before the end",
		hint: "begin again; if it happens often, look at the connection between {host} and the coordinator"}
	targetDenied = cause{code: job.PermissionDenied, message: "nothing was restored: borg may not write to {target} on {host}: {said}",
		hint: "run the agent as a user who may, or restore to a directory of its own below policy.restore"}
	noKey = cause{code: job.Internal, message: "borg ended well, but the key of {repo} could not be encrypted: {said}",
		hint: "see whether the disk with the agent's data on {host} is full, then try again; the key has not left the host"}
	lockStays = cause{code: job.RepositoryLocked, message: "{repo} is locked by {said}",
		hint: "wait until it ends; if you are sure that no borg uses {repo} any more: borgfleet repo break-lock {name} --host {host} --force"}
	lockChanges = cause{code: job.RepositoryLocked, message: "the lock of {repo} was changing hands while it was looked at",
		hint: "another borg works on {repo}: wait until it ends"}
	noBorg = cause{code: job.BorgMissing, message: "borg could not be run on {host}: {said}",
		hint: "install it there (Debian: apt install borgbackup), or set borg.binary in the agent's configuration"}
	unreadable = cause{code: job.Internal, message: "borg ended well, but the result that it printed could not be read: {said}",
		hint: "see whether {repo} has what was asked for: borgfleet archive list {name} --host {host}"}
	cancelled = cause{code: job.CodeCancelled, message: "the {kind} job was cancelled while borg ran on {host}"}
	timedOut  = cause{code: job.Timeout, message: "the {kind} job was ended because borg had run on {host} for longer than its time limit of {said}",
		hint: "see in its log what took so long; give the job a longer timeout, or raise limits.timeout"}
	ended = cause{code: job.Interrupted, message: "borg on {host} was ended by {signal}",
		hint: "see whether {host} was shut down, or who ended it; a backup goes on from its last checkpoint"}
	lost = cause{code: job.Interrupted, message: "borg is gone from {host} and nobody saw how it ended: the host was restarted, or borg was killed together with its supervisor",
		hint: "look at what happened to {host} at that time, then try again"}
	lostBackup = cause{code: job.Interrupted, message: lost.message,
		hint: "the next backup goes on from borg's last checkpoint; if this happens often, look for the kernel's out-of-memory killer in the log of {host}"}
	killed = cause{code: job.Interrupted, message: "borg on {host} was killed",
		hint: "the kernel kills when memory runs out: see its log on {host}; a backup goes on from its last checkpoint"}
)
