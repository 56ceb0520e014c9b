package job

import (
	"regexp"
	"slices"
	"strings"
)

// Encryption is one of borg's encryption modes.
type Encryption string

// Encryption modes of the contract, as borg init names them.
const (
	RepokeyBlake2       Encryption = "repokey-blake2"
	Repokey             Encryption = "repokey"
	KeyfileBlake2       Encryption = "keyfile-blake2"
	Keyfile             Encryption = "keyfile"
	AuthenticatedBlake2 Encryption = "authenticated-blake2"
	Authenticated       Encryption = "authenticated"
	Unencrypted         Encryption = "none"
)

var encryptions = []Encryption{
	RepokeyBlake2, Repokey, KeyfileBlake2, Keyfile, AuthenticatedBlake2, Authenticated, Unencrypted,
}

// Encryptions returns every mode, the default first.
func Encryptions() []Encryption { return slices.Clone(encryptions) }

// Known reports whether e is one of borg's modes.
func (e Encryption) Known() bool { return slices.Contains(encryptions, e) }

// NeedsPassphrase reports whether borg asks for a passphrase in this mode.
func (e Encryption) NeedsPassphrase() bool { return e != Unencrypted }

func badEncryption(field string, e Encryption) *Failure {
	names := make([]string, len(encryptions))
	for i, known := range encryptions {
		names[i] = string(known)
	}
	return badSpec(field, "%q is not an encryption mode", e).WithHint("one of %s", strings.Join(names, ", "))
}

// Repository is what a job needs to know of its repository; the passphrase
// travels apart from it, sealed.
type Repository struct {
	Name       string     `json:"name"`
	Location   string     `json:"location"` // absolute path, ssh://user@host:port/path, or depot
	Encryption Encryption `json:"encryption"`
}

// DepotLocation is the location of a repository that the coordinator keeps
// itself. Where borg finds it depends on who asks, and is said in each order.
const DepotLocation = "depot"

// InDepot reports whether the coordinator keeps the repository.
func (r Repository) InDepot() bool { return r.Location == DepotLocation }

var (
	hostName       = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	repositoryName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	sshServer      = regexp.MustCompile(`^ssh://[^/]*`)
	sshPassword    = regexp.MustCompile(`^ssh://[^/@]*:[^/]*@`)
	sshLocation    = regexp.MustCompile(`^ssh://([^/@\s-][^/@\s]*@)?[A-Za-z0-9._:\[\]][A-Za-z0-9._:\[\]-]*(:[0-9]{1,5})?/\S+$`)
)

// CheckHostName checks a host's name. Names become part of subjects and of
// permission templates, so the pattern is strict.
func CheckHostName(field, name string) error {
	if !hostName.MatchString(name) {
		return Invalid(field, "%q is not a host name", name).WithHint("1 to 63 of a-z, 0-9 and -")
	}
	return nil
}

// CheckRepositoryName checks a repository's name.
func CheckRepositoryName(field, name string) error {
	if !repositoryName.MatchString(name) {
		return Invalid(field, "%q is not a repository name", name).WithHint("1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit")
	}
	return nil
}

// Validate returns nil or a *Failure about the first bad field.
func (r Repository) Validate() error {
	if err := CheckRepositoryName("name", r.Name); err != nil {
		return err
	}
	if err := checkLocation(r.Location); err != nil {
		return err
	}
	if !r.Encryption.Known() {
		f := badEncryption("encryption", r.Encryption)
		f.Code = InvalidRequest
		return f
	}
	return nil
}

// CheckKind returns nil, or a *Failure with code invalid_spec when a job of kind
// k can never work on the repository, by what is known of it beforehand.
func (r Repository) CheckKind(k Kind) error {
	if k == KeyExport && r.Encryption == Unencrypted {
		return Fail(InvalidSpec, "repository %s is not encrypted: it has no key to export", r.Name).
			WithHint("nothing needs to be kept to read it; to protect its data, make a repository with an encryption mode")
	}
	return nil
}

// checkLocation checks a location, also for what borg would take for something
// else than a part of it.
func checkLocation(location string) error {
	const field = "location"
	if location == DepotLocation {
		return nil
	}
	local := strings.HasPrefix(location, "/") && !strings.ContainsAny(location, "\x00\n\r")
	switch {
	case sshPassword.MatchString(location):
		return Invalid(field, "there is a password in it").
			WithHint("give ssh://user@host/path, and let the host's ssh key open the server: a location is shown to everybody")
	case !local && !sshLocation.MatchString(location):
		return Invalid(field, "%q is not a repository location", location).
			WithHint("an absolute path on the host, ssh://user@host:port/path, or %q for one that the coordinator keeps", DepotLocation)
	case strings.ContainsAny(location, "{}"):
		return Invalid(field, "%q has braces in it, which borg takes for placeholders", location).
			WithHint("give a location without { and }")
	case strings.Contains(sshServer.ReplaceAllString(location, ""), "::"): // an IPv6 address may have one
		return Invalid(field, "%q has a double colon in it, after which borg expects an archive's name", location).
			WithHint("give a location without ::")
	}
	return nil
}
