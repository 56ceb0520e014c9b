package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// maxSlots is far above what a machine's disks can serve.
const maxSlots = 64

// faults collects what is wrong.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (f *faults) need(ok bool, field, format string, args ...any) {
	if !ok {
		f.add(field, format, args...)
	}
}

func (c Config) validate() error {
	var f faults
	if err := job.CheckHostName("host", c.Host); err != nil {
		f = append(f, err)
	}
	f.need(c.Data != "", "data", "is empty")
	f.need(c.Slots >= 1 && c.Slots <= maxSlots, "slots", "%d is not between 1 and %d", c.Slots, maxSlots)
	levels := []string{"trace", "debug", "info", "warn", "error"}
	f.need(slices.Contains(levels, c.Log.Level), "log.level", "%q is not one of %s", c.Log.Level, strings.Join(levels, ", "))
	f.need(c.Log.Format == "text" || c.Log.Format == "json", "log.format", "%q is neither text nor json", c.Log.Format)
	c.Bus.validate(&f)
	c.Borg.validate(&f)
	c.Policy.validate(&f)
	return errors.Join(f...)
}

func (b Bus) validate(f *faults) {
	f.need(len(b.URLs) > 0, "bus.urls", "is empty: the agent would reach nobody")
	for i, text := range b.URLs {
		u, err := url.Parse(text)
		known := err == nil && slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) && u.Host != ""
		f.need(known, fmt.Sprintf("bus.urls[%d]", i), "%q is not a bus address, such as tls://backup.example.net:4222", text)
		f.need(!known || u.User == nil, fmt.Sprintf("bus.urls[%d]", i), "holds a user or password; credentials belong into bus.credentials_file")
	}
	web := func(address string) bool { return strings.HasPrefix(address, "ws") }
	f.need(!slices.ContainsFunc(b.URLs, web) || !slices.ContainsFunc(b.URLs, func(u string) bool { return !web(u) }),
		"bus.urls", "mixes websockets (ws, wss) with plain connections (nats, tls); use one kind")
	f.need(b.CredentialsFile != "", "bus.credentials_file", "is empty")
}

var ioNice = regexp.MustCompile(`^(|idle|best-effort:[0-7])$`)

func (b Borg) validate(f *faults) {
	f.need(b.Binary != "", "borg.binary", "is empty")
	f.need(b.Nice >= -20 && b.Nice <= 19, "borg.nice", "%d is not between -20 and 19", b.Nice)
	f.need(ioNice.MatchString(b.IONice), "borg.ionice", "%q is neither best-effort:0 to best-effort:7 nor idle", b.IONice)
	f.need(b.LockWait >= 0, "borg.lock_wait", "is negative")
	if _, err := b.UploadKiB(); err != nil {
		f.add("borg.upload_limit", "%s", err)
	}
}

var rate = regexp.MustCompile(`^([0-9]{1,9})([KMG])$`)

// UploadKiB returns the upload limit in KiB a second, which is borg's unit; 0
// means none.
func (b Borg) UploadKiB() (int, error) {
	if b.UploadLimit == "" {
		return 0, nil
	}
	match := rate.FindStringSubmatch(b.UploadLimit)
	if match == nil {
		return 0, fmt.Errorf("%q is not a rate, such as 500K or 10M", b.UploadLimit)
	}
	n, err := strconv.Atoi(match[1])
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a rate above zero", b.UploadLimit)
	}
	return n << (10 * strings.Index("KMG", match[2])), nil
}

func (p Policy) validate(f *faults) {
	for i, kind := range p.Kinds {
		f.need(kind.Known(), fmt.Sprintf("policy.kinds[%d]", i), "%q is not a job kind", kind)
	}
	absolute := func(field string, paths []string) {
		for i, p := range paths {
			f.need(filepath.IsAbs(p), fmt.Sprintf("policy.%s[%d]", field, i), "%q is not an absolute path", p)
		}
	}
	absolute("read", p.Read)
	absolute("restore", p.Restore)
	for i, glob := range p.Repositories {
		_, err := path.Match(glob, "")
		f.need(err == nil, fmt.Sprintf("policy.repositories[%d]", i), "%q is not a pattern", glob)
	}
	f.need(p.Hooks == "" || filepath.IsAbs(p.Hooks), "policy.hooks", "%q is not an absolute path", p.Hooks)
}
