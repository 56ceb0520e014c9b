package borgmatic

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var (
	scpForm        = regexp.MustCompile(`^([A-Za-z0-9._-]+@)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):(.*)$`)
	credentialForm = regexp.MustCompile(`^\{credential file (.+)\}$`)
)

// repositories maps each repository, with the passphrase that they share.
func (r *reader) repositories() {
	passphrase, file := r.passphrase()
	for _, entry := range entries(r.take("repositories"), "path") {
		e := &config{file: r.file, keys: entry}
		r.repository(e, passphrase, file)
		for key := range e.keys {
			r.note("repositories."+key, "it is not mapped")
		}
		r.notes = append(r.notes, e.notes...)
	}
}

// passphrase returns the passphrase, or the file that it is in.
func (r *reader) passphrase() (secret.Value, string) {
	text := strings.Trim(r.text("encryption_passphrase"), `"`)
	if match := credentialForm.FindStringSubmatch(text); match != nil {
		return secret.Value{}, strings.Trim(match[1], `'"`)
	}
	if strings.HasPrefix(text, "{credential ") {
		r.note("encryption_passphrase", "it is kept elsewhere: put it into the file that passphrase_file names")
		return secret.Value{}, "/etc/borgfleet/" + r.plan + ".pass"
	}
	if _, command := r.keys["encryption_passcommand"]; command && text == "" {
		return secret.Value{}, "/etc/borgfleet/" + r.plan + ".pass"
	}
	return secret.FromString(text), ""
}

func (r *reader) repository(e *config, passphrase secret.Value, file string) {
	where, label := e.text("path"), e.text("label")
	location, err := locationOf(where, r.host)
	if err != nil {
		r.note("repositories", "%s", err)
		e.keys = nil
		return
	}
	repository := Repository{
		Location: location, Passphrase: passphrase, PassphraseFile: file,
		Encryption: job.Encryption(e.text("encryption")),
	}
	e.take("make_parent_directories")
	if appendOnly, quota := e.truth("append_only"), e.text("storage_quota"); appendOnly || quota != "" {
		r.note("repositories", "append_only and storage_quota are for the server at %s to say, or for a repository in the depot", location)
	}
	secretless := passphrase.Empty() && file == ""
	switch {
	case repository.Encryption != "":
	case secretless:
		repository.Encryption = job.Unencrypted
		r.note("repositories", "%s is taken for not encrypted, as there is no passphrase", location)
	default:
		repository.Encryption = job.RepokeyBlake2
		r.note("repositories", "%s is taken for encrypted by repokey-blake2: write what borg info says if it is not", location)
	}
	if !repository.Encryption.NeedsPassphrase() {
		repository.Passphrase, repository.PassphraseFile = secret.Value{}, ""
	}
	r.addRepository(label, repository)
}

// addRepository adds a repository to the plan, under the name that it has if
// another configuration has named it.
func (r *reader) addRepository(label string, repository Repository) {
	for name, known := range r.to.Repositories {
		if known.Location == repository.Location {
			r.spec.Repositories = append(r.spec.Repositories, name)
			return
		}
	}
	name := cmp.Or(plain(label), plain(strings.TrimSuffix(path.Base(repository.Location), ".borg")), "main")
	name = freeName(strings.Trim(r.host+"-"+strings.TrimPrefix(name, r.host+"-"), "-"), func(n string) bool { _, taken := r.to.Repositories[n]; return taken })
	r.to.Repositories[name] = repository
	r.spec.Repositories = append(r.spec.Repositories, name)
}

// locationOf writes a location as it is written here.
func locationOf(where, host string) (string, error) {
	location := hostname.ReplaceAllString(where, host)
	switch {
	case location == "":
		return "", fmt.Errorf("one has no path")
	case strings.HasPrefix(location, "ssh://"), strings.HasPrefix(location, "/"):
	case strings.HasPrefix(location, "file://"):
		location = strings.TrimPrefix(location, "file://")
	case strings.Contains(location, "://"), strings.HasPrefix(location, "rclone:"):
		kind, _, _ := strings.Cut(location, ":") // keys of a store may follow
		return "", fmt.Errorf("one is of a kind that borg 1 does not know: %s", kind)
	default:
		match := scpForm.FindStringSubmatch(location)
		if match == nil {
			return "", fmt.Errorf("%s is not an absolute path", location)
		}
		place := match[3]
		switch {
		case strings.HasPrefix(place, "~/"):
			place = "/" + place
		case !strings.HasPrefix(place, "/"):
			place = "/./" + place
		}
		location = "ssh://" + match[1] + match[2] + place
	}
	if err := (job.Repository{Name: "x", Location: location, Encryption: job.Repokey}).Validate(); err != nil {
		return "", fmt.Errorf("%w", job.AsFailure(err))
	}
	return location, nil
}
