package borgmatic

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Options say what is imported, and for whom.
type Options struct {
	Files    []string
	Host     string
	Schedule string // a crontab, or a systemd timer; empty: none
	Timezone string // of the schedule; empty: UTC
	Lookup   func(name string) (string, bool)
}

// Note is something that a person has to know: a key that could not be mapped, or
// only in part.
type Note struct {
	File    string `json:"file"`
	Key     string `json:"key"`
	Message string `json:"message"`
}

// Repository is a repository that a configuration names.
type Repository struct {
	Location       string
	Encryption     job.Encryption
	Passphrase     secret.Value // empty: none, or it is in PassphraseFile
	PassphraseFile string
}

// Hook is a script that belongs into the host's directory of hooks.
type Hook struct {
	Name    string
	Content string
}

// Import is what configurations are here.
type Import struct {
	Plans        map[string]fleet.PlanSpec
	Repositories map[string]Repository
	Hooks        []Hook
	Pings        map[string]secret.Value // addresses at Healthchecks, by plan
	Notes        []Note
}

// Read reads configurations.
func Read(o Options) (*Import, error) {
	result := &Import{Plans: map[string]fleet.PlanSpec{}, Repositories: map[string]Repository{}, Pings: map[string]secret.Value{}}
	schedule, notes, err := readSchedule(o.Schedule, o.Timezone)
	if err != nil {
		return nil, err
	}
	result.Notes = append(result.Notes, notes...)
	for _, file := range o.Files {
		keys, err := load(file, o.Lookup)
		if err != nil {
			return nil, fmt.Errorf("read configuration of borgmatic: %w", err)
		}
		r := &reader{config: newConfig(file, keys), to: result, host: o.Host}
		r.plan = r.planName(o)
		r.spec.Hosts = []string{o.Host}
		r.spec.Schedule = schedule
		r.read()
		result.Plans[r.plan] = r.spec
		r.left()
		result.Notes = append(result.Notes, r.notes...)
	}
	return result, nil
}

// reader maps one configuration.
type reader struct {
	*config
	to         *Import
	host, plan string
	spec       fleet.PlanSpec
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// plain makes a name of a text.
func plain(text string) string {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(text), "-"), "-")
	return strings.Trim(name[:min(len(name), 40)], "-")
}

// planName names a plan after its host, and its file if there are several.
func (r *reader) planName(o Options) string {
	name := o.Host
	if len(o.Files) > 1 {
		name += "-" + cmp.Or(plain(strings.TrimSuffix(path.Base(r.file), path.Ext(r.file))), "plan")
	}
	return freeName(name, func(n string) bool { _, taken := r.to.Plans[n]; return taken })
}

func freeName(name string, taken func(string) bool) string {
	free := name
	for n := 2; taken(free); n++ {
		free = name + "-" + strconv.Itoa(n)
	}
	return free
}

func (r *reader) read() {
	r.sources()
	r.storage()
	r.repositories()
	r.retention()
	r.checks()
	r.hooks()
	r.databases()
	r.healthchecks()
	r.skipped()
	if len(r.spec.Repositories) == 0 {
		r.note("repositories", "there is none that can be mapped: add one to the plan")
	}
}

// sources maps what is backed up.
func (r *reader) sources() {
	directory := r.text("working_directory")
	for _, source := range r.list("source_directories") {
		r.source(directory, source)
	}
	r.spec.Exclude = r.list("exclude_patterns")
	r.spec.ExcludeFrom = r.list("exclude_from")
	r.spec.PatternsFrom = r.list("patterns_from")
	r.spec.ExcludeIfPresent = r.list("exclude_if_present")
	for _, pattern := range r.list("patterns") {
		if root, ok := strings.CutPrefix(pattern, "R "); ok {
			r.source(directory, strings.TrimSpace(root))
			continue
		}
		r.spec.Patterns = append(r.spec.Patterns, pattern)
	}
	r.spec.ExcludeCaches, r.spec.KeepExcludeTags = r.truth("exclude_caches"), r.truth("keep_exclude_tags")
	r.spec.ExcludeNoDump, r.spec.OneFileSystem = r.truth("exclude_nodump"), r.truth("one_file_system")
	r.spec.NumericIDs = r.truth("numeric_ids") || r.truth("numeric_owner")
	r.spec.ReadSpecial, r.spec.Sparse = r.truth("read_special"), r.truth("sparse")
	if flags := r.take("flags"); flags == false {
		r.spec.NoFlags = true
	}
	if flags := r.take("bsd_flags"); flags == false {
		r.spec.NoFlags = true
	}
	for _, key := range []string{"atime", "ctime", "birthtime"} {
		if _, said := r.keys[key]; said {
			r.take(key)
			r.note(key, "it is not mapped: borg's default is used")
		}
	}
}

// source adds a path. What borgmatic would expand is replaced by the directory
// that holds it: more is backed up then, never less.
func (r *reader) source(directory, source string) {
	if !path.IsAbs(source) && directory != "" {
		source = path.Join(directory, source)
	}
	whole := source
	if at := strings.IndexAny(source, "*?["); at >= 0 {
		source = path.Dir(source[:at] + "x")
		r.note("source_directories", "%s is a pattern: all of %s is backed up instead", whole, source)
	}
	if !path.IsAbs(source) {
		r.note("source_directories", "%s is not an absolute path, and is left out", whole)
		return
	}
	r.spec.Paths = append(r.spec.Paths, path.Clean(source))
}

// storage maps how it is stored.
func (r *reader) storage() {
	r.spec.Compression = r.text("compression")
	r.spec.UploadLimit = max(r.number("upload_rate_limit"), r.number("remote_rate_limit"))
	r.spec.CheckpointInterval = r.number("checkpoint_interval")
	r.spec.ListFiles = r.truth("list_details")
	if mode := r.text("files_cache"); mode != "" {
		r.spec.FilesCache = job.FilesCache(mode)
	}
	if retries := r.number("retries"); retries > 0 {
		r.spec.Retry = &fleet.Retry{Attempts: retries + 1}
		if wait := r.number("retry_wait"); wait > 0 {
			r.spec.Retry.Wait = fleet.Span(strconv.Itoa(wait) + "s")
		}
	}
	format := r.text("archive_name_format")
	r.text("match_archives")
	prefix := r.text("prefix")
	if prefix == "" {
		prefix = format
	}
	if prefix != "" {
		r.prefix(prefix)
	}
}

var (
	atTime       = regexp.MustCompile(`\{(now|utcnow)[^}]*\}.*$`)
	hostname     = regexp.MustCompile(`\{(hostname|fqdn|reverse-fqdn)\}`)
	anyBraces    = regexp.MustCompile(`\{[^}]*\}`)
	placeholders = regexp.MustCompile(`\{(host|plan)\}`)
)

// prefix maps how archives are called: the time comes by itself.
func (r *reader) prefix(format string) {
	prefix := hostname.ReplaceAllString(atTime.ReplaceAllString(format, ""), "{host}")
	if anyBraces.MatchString(placeholders.ReplaceAllString(prefix, "")) || prefix == "" {
		r.note("archive_name_format", "it is not mapped: archives are called %s-%s- and the time", r.host, r.plan)
		return
	}
	r.spec.ArchivePrefix = prefix
	r.note("archive_name_format", "archives are called %s and the time; those that borgmatic has made are not pruned by the plan", strings.ReplaceAll(prefix, "{host}", r.host))
}

func (r *reader) retention() {
	keep := fleet.Retention{
		KeepWithin: r.text("keep_within"), KeepHourly: r.number("keep_hourly"), KeepDaily: r.number("keep_daily"),
		KeepWeekly: r.number("keep_weekly"), KeepMonthly: r.number("keep_monthly"), KeepYearly: r.number("keep_yearly"), KeepLast: r.number("keep_last"),
	}
	for _, key := range []string{"keep_secondly", "keep_minutely", "keep_13weekly", "keep_3monthly"} {
		if n := r.number(key); n > 0 {
			r.note(key, "it is not mapped: there is nothing like it")
		}
	}
	if keep != (fleet.Retention{}) {
		r.spec.Retention = &keep
		r.spec.After = []job.Kind{job.Prune, job.Compact}
	}
}

// skipped maps actions that are never run.
func (r *reader) skipped() {
	for _, action := range r.list("skip_actions") {
		switch action {
		case "prune":
			r.spec.After = nil
		case "compact":
			if len(r.spec.After) > 0 {
				r.spec.After = []job.Kind{job.Prune}
			}
		case "check":
			r.spec.Check, r.spec.RestoreTest = nil, nil
		default:
			r.note("skip_actions", "%s is not mapped", action)
		}
	}
}
