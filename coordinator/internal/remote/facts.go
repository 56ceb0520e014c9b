package remote

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// versionLife is how long an answer of borg's is good for. What it costs to ask
// is a third of a second.
const versionLife = 5 * time.Minute

// Facts are what a host is like.
type Facts struct {
	OS          string        // "Debian GNU/Linux 12 (bookworm)"
	Arch        string        // as uname -m calls it: "x86_64"
	User        string        // that we log in as, or are by sudo
	Home        string        // its home directory
	Dir         string        // where we keep things
	FreeBytes   uint64        // left there, where borg keeps its cache; 0: unknown
	TotalBytes  uint64        // of that file system
	ClockAhead  time.Duration // of the host's clock, before ours
	Borg        borg.Version  // zero when there is no usable one
	BorgPath    string        // empty when there is none
	BorgFailure *job.Failure  // why there is no usable borg, and how to install it there
	// Problem is why nothing can be run there, beside borg; nil when all is well.
	Problem *job.Failure
}

// Memory is what borg keeps on the host, for whoever shall go on with it.
type Memory struct {
	BaseDir string // keys, what borg knows of repositories, and its cache: BORG_BASE_DIR
	HostID  string // by which borg's locks know the host; empty when nothing has run there
}

// Memory returns where borg keeps what it remembers on the host.
func (h *Host) Memory(ctx context.Context) (Memory, *job.Failure) {
	said, err := h.ask(ctx, h.script("", values{"ask": "keeps"}, host), nil)
	if err != nil {
		return Memory{}, h.failed(err)
	}
	return Memory{BaseDir: said.get("base"), HostID: said.get("hostid")}, nil
}

// Version tells which borg there is, or why there is no usable one, and how to
// install it on the host's distribution. It asks once in five minutes, and after
// Forget.
func (h *Host) Version(ctx context.Context) (borg.Version, *job.Failure) {
	h.mu.Lock()
	known := h.version
	h.mu.Unlock()
	if known != nil && time.Since(known.at) < versionLife {
		return known.version, nil
	}
	said, err := h.ask(ctx, h.script("", values{"ask": "version", "borg": h.options.Borg}, look), nil)
	if err != nil {
		return borg.Version{}, h.failed(err)
	}
	return h.judge(said)
}

// failed is why a script did not work, for people.
func (h *Host) failed(err error) *job.Failure {
	failure := job.AsFailure(err)
	if failure.Code == job.Internal {
		failure = job.Fail(job.HostUnreachable, "%s does not answer as it should: %s", h.options.Host, err).
			WithHint("look at the host: borgfleet host verify %s", h.options.Host)
	}
	return failure
}

// judge reads what borg said of itself, and remembers a good answer.
func (h *Host) judge(said answers) (borg.Version, *job.Failure) {
	text := said.get("version")
	version, err := borg.ParseVersion(text)
	release := said.get("release")
	switch {
	case said.get("path") == "":
		return borg.Version{}, h.missing("there is no "+h.options.Borg, release)
	case err != nil:
		return borg.Version{}, h.missing(fmt.Sprintf("%s says: %s", shown(said.get("path")), firstLine(text)), release)
	}
	if failure := version.Check(); failure != nil {
		return version, job.Fail(failure.Code, "%s (%s on %s)", failure.Message, shown(said.get("path")), h.options.Host).
			WithHint("%s", h.installHint(release))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.version = &answer{version: version, at: time.Now()}
	return version, nil
}

// missing says that there is no borg that runs.
func (h *Host) missing(why, release string) *job.Failure {
	return job.Fail(job.BorgMissing, "borg cannot be run on %s: %s", h.options.Host, why).WithHint("%s", h.installHint(release))
}

func (h *Host) installHint(release string) string {
	return fmt.Sprintf("install borg 1.2 or 1.4 there%s, or say where it is: borgfleet host set %s --borg PATH", install(release), h.options.Host)
}

// install is how borg is installed, by what os-release says.
func install(release string) string {
	for id := range strings.FieldsSeq(setting(release, "ID") + " " + setting(release, "ID_LIKE")) {
		if command := installers[id]; command != "" {
			return " (" + command + ")"
		}
	}
	return ""
}

var installers = map[string]string{
	"debian": "apt install borgbackup", "ubuntu": "apt install borgbackup",
	"fedora": "dnf install borgbackup", "rhel": "dnf install epel-release, then dnf install borgbackup",
	"centos": "dnf install epel-release, then dnf install borgbackup",
	"alpine": "apk add borgbackup", "arch": "pacman -S borg", "suse": "zypper install borgbackup",
	"opensuse": "zypper install borgbackup", "gentoo": "emerge app-backup/borgbackup",
	"void": "xbps-install borg", "nixos": "environment.systemPackages = [ pkgs.borgbackup ];",
}

// setting reads a variable of os-release.
func setting(release, name string) string {
	for line := range strings.Lines(release) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return shown(line)
}

// timed notes when the first bytes come.
type timed struct {
	limited
	at time.Time
}

// Write implements io.Writer.
func (t *timed) Write(p []byte) (int, error) {
	if t.at.IsZero() {
		t.at = time.Now()
	}
	return t.limited.Write(p)
}

// Look finds out what the host is like. The failure says that it could not be
// asked; what is wrong with it is among the facts.
func (h *Host) Look(ctx context.Context) (Facts, *job.Failure) {
	facts, _, failure := h.look(ctx, "look")
	return facts, failure
}

func (h *Host) look(ctx context.Context, question string) (Facts, answers, *job.Failure) {
	out, errs := timed{limited: limited{limit: maxSaid}}, limited{limit: 1 << 10}
	begun := time.Now()
	code, err := h.options.Shell.Exec(ctx, h.script("", values{"ask": question, "borg": h.options.Borg}, look), nil, &out, &errs)
	if err == nil && code != 0 {
		err = fmt.Errorf("a script ended with code %d: %s", code, shown(errs.String()))
	}
	said, torn := parse(out.Bytes())
	if err = cmp.Or(err, torn); err != nil {
		return Facts{}, nil, h.failed(err)
	}
	middle := begun.Add(out.at.Sub(begun) / 2)
	facts := Facts{
		OS:   shown(cmp.Or(setting(said.get("release"), "PRETTY_NAME"), said.get("system")+"/"+said.get("machine"))),
		Arch: shown(said.get("machine")), User: shown(said.get("user")), Home: shown(said.get("home")), Dir: said.get("dir"),
		ClockAhead: moment(said.get("clock")).Sub(middle), BorgPath: shown(said.get("path")),
	}
	facts.FreeBytes, facts.TotalBytes = space(said.get("space"))
	facts.Borg, facts.BorgFailure = h.judge(said)
	facts.Problem = h.problem(said)
	return facts, said, nil
}

// problem is why nothing can be run on the host.
func (h *Host) problem(said answers) *job.Failure {
	if room := said.get("room"); room != "done" {
		_, failure := h.unwritable(said.get("dir"), room)
		return failure
	}
	if said.get("say") == "" {
		return job.AsFailure(h.refused(answers{{"refused", "printf"}}))
	}
	return nil
}

// space reads a line of df -Pk: what is left, and all of it. A name of a file
// system may have blanks in it, so the line is read from the percentage on.
func space(line string) (free, total uint64) {
	fields := strings.Fields(line)
	for i := len(fields) - 1; i >= 3; i-- {
		if !strings.HasSuffix(fields[i], "%") {
			continue
		}
		free, _ = strconv.ParseUint(fields[i-1], 10, 64) // 0: unknown
		total, _ = strconv.ParseUint(fields[i-3], 10, 64)
		return free << 10, total << 10
	}
	return 0, 0
}

// BaseDir is where borg keeps its cache, keys and whatever else it remembers on
// the host. Programs find it in their environment (BORG_BASE_DIR) without being
// told, and BORG_HOST_ID as well.
func (h *Host) BaseDir(ctx context.Context) (string, *job.Failure) {
	facts, failure := h.Look(ctx)
	if failure != nil {
		return "", failure
	}
	return facts.Dir + "/borg", nil
}
