package faults_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hookScript is every hook of a host: by its name it knows what to do. It writes
// down when it begins and when it ends, and stays as long as a test holds it.
const hookScript = `#!/bin/sh
told=%[1]s
echo "$BORGFLEET_JOB begin $BORGFLEET_PHASE $BORGFLEET_HOOK $BORGFLEET_RESULT" >>$told
while [ -e $told.hold.$BORGFLEET_HOOK ]; do sleep 0.1; done
case $BORGFLEET_HOOK in
hang) trap '' TERM HUP INT; while :; do sleep 1; done ;;
parent) kill -KILL $PPID ;;
group) kill -KILL 0 ;;
much) yes 'what a hook has to say' | head -c 200000000 ;;
esac
echo "$BORGFLEET_JOB end $BORGFLEET_PHASE $BORGFLEET_HOOK $BORGFLEET_RESULT" >>$told
`

// putHooks gives a host its hooks.
func (h *host) putHooks() {
	h.t.Helper()
	h.hooks = h.t.TempDir()
	if err := os.Chmod(h.hooks, 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.hookNotes = filepath.Join(h.t.TempDir(), "told")
	for _, name := range []string{"before", "after", "failure", "hang", "parent", "group", "much"} {
		if err := os.WriteFile(filepath.Join(h.hooks, name), fmt.Appendf(nil, hookScript, h.hookNotes), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *host) holdHook(name string) {
	h.t.Helper()
	if err := os.WriteFile(h.hookNotes+".hold."+name, nil, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) releaseHook(name string) {
	h.t.Helper()
	if err := os.Remove(h.hookNotes + ".hold." + name); err != nil {
		h.t.Fatal(err)
	}
}

// hookNote is a line that a hook has written.
type hookNote struct {
	id                         job.ID
	what, phase, named, result string
}

func (h *host) readHookNotes() (notes []hookNote) {
	text, err := os.ReadFile(h.hookNotes)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := append(strings.Fields(line), ""); len(f) >= 5 {
			notes = append(notes, hookNote{job.ID(f[0]), f[1], f[2], f[3], f[4]})
		}
	}
	return notes
}

// checkHooks looks whether in each attempt each hook was run once at the most, and
// those of after once when one before was, with a result that is the job's; and
// whether none is left.
func (w *world) checkHooks(f *finding) {
	for _, h := range w.hosts {
		if h.hooks == "" {
			continue
		}
		if !within(func() error {
			if len(harness.PIDs(h.hooks+"/")) > 0 {
				return errors.New("some are left")
			}
			return nil
		}) {
			f.breach(rests, "hooks of host %s are left: %v", h.Host, harness.PIDs(h.hooks+"/"))
		}
		for _, j := range f.jobs {
			if spec, ok := j.Spec.(job.BackupSpec); ok && spec.Hooks != nil && j.Host == h.Host {
				checkHooksOf(f, j, h.readHookNotes())
			}
		}
	}
}

func checkHooksOf(f *finding, j job.Job, notes []hookNote) {
	count, result := map[string]int{}, ""
	for _, n := range notes {
		if n.id != j.ID || n.what != "begin" {
			continue
		}
		if count[n.phase]++; n.phase == "after" {
			result = n.result
		}
	}
	for phase, n := range count {
		if n > j.Attempt {
			f.breach(twice, "in %d attempts of job %s, hooks of %s began %d times", j.Attempt, j.ID, phase, n)
		}
	}
	if count["after"] != count["before"] {
		f.breach(lost, "job %s: hooks of before began %d times, and those of after %d times", j.ID, count["before"], count["after"])
	}
	told := job.State(result)
	if count["after"] > 0 && told != j.State && (j.State != job.Warning || told != job.Succeeded) {
		f.breach(lost, "job %s is %s, and its last hook was told %q", j.ID, j.State, result)
	}
}

// around are hooks of all phases.
func around(before string) *job.Hooks {
	return &job.Hooks{Before: []string{before}, After: []string{"after"}, OnFailure: []string{"failure"}, Timeout: 120}
}

// hooked asks for a small backup with hooks.
func (s *scene) hooked(hooks *job.Hooks) {
	s.t.Helper()
	s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{"/etc/hostname"}, Hooks: hooks})
}

// hookBegun waits until a hook has begun.
func (s *scene) hookBegun(name string) {
	s.t.Helper()
	harness.Eventually(s.t, "hook "+name+" to begin", func() error {
		for _, n := range s.host.readHookNotes() {
			if n.named == name {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

// inHook is a backup of which a hook runs.
func inHook(name string) phase {
	return phase{"hook of " + name, func(s *scene) {
		s.host.holdHook(name)
		s.hooked(around("before"))
		s.hookBegun(name)
	}, func(s *scene) { s.host.releaseHook(name) }}
}

// betweenHooks is a backup that sends, before hooks of after.
func betweenHooks(seconds int) phase {
	return phase{"middle, between hooks", func(s *scene) {
		const rate = 128 // KiB/s
		dir := s.t.TempDir()
		harness.MakeTree(s.t, dir, 2*seconds, rate<<10/2)
		s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{dir}, UploadLimit: rate, Compression: "none", Hooks: around("before")})
		s.sending()
	}, nothing}
}

// child returns the borg that the job's script has started with a word.
func (s *scene) child(word string) int {
	s.t.Helper()
	script, found := s.borgPID(), 0
	harness.Eventually(s.t, "borg"+word, func() error {
		for _, pid := range lab.Children(script) {
			if line := commandLine(pid); strings.Contains(line, word) && !strings.Contains(line, " -c ") {
				found = pid
				return nil
			}
		}
		return errors.New("it does not run")
	})
	return found
}

// killCreate kills the borg that makes an archive, and not the script around it.
var killCreate = breakage{"kill", func(s *scene) { signal(s, s.child(" create "), syscall.SIGKILL) }, 0, nothing}

// withHooks gives the hosts of scenarios hooks.
func withHooks(cases ...scenario) []scenario {
	for i := range cases {
		before := cases[i].options
		cases[i].options = func(t testing.TB) options {
			o := options{}
			if before != nil {
				o = before(t)
			}
			o.hooks = true
			return o
		}
	}
	return cases
}

// cancelIn cancels a job in a phase, which must end by that.
func cancelIn(p phase, states ...job.State) scenario {
	return ends(scenario{name: "cancel / " + p.name, play: func(s *scene) {
		p.reach(s)
		s.cancel()
		s.is(states...)
		p.leave(s)
	}}, states...)
}

// misbehaves has a hook in before do something bad.
func misbehaves(name, what string) scenario {
	return ends(scenario{name: "hook / " + what, play: func(s *scene) {
		hooks := around(name)
		hooks.Timeout = 3
		s.hooked(hooks)
		if j := s.is(job.Failed); j.Failure.Code != job.HookFailed {
			s.t.Errorf("it failed with %+v", j.Failure)
		}
	}}, job.Failed)
}

func hookCases() []scenario {
	before, after := inHook("before"), inHook("after")
	cases := []scenario{
		quick(broken("agent", before, killAgent)),
		broken("agent", betweenHooks(6), killAgent),
		broken("agent", after, killAgent),
		broken("agent", before, restartAgent),
		broken("agent", after, cutAgent),
		broken("coordinator", before, killCoordinator),
		again(broken("borg", betweenHooks(6), killCreate)),
		misbehaves("hang", "hangs"), misbehaves("parent", "kills its parent"), misbehaves("group", "kills its group"),
		onDisk(scenario{name: "hook / prints 200 MB", play: func(s *scene) { s.hooked(around("much")) }}, 64, ofAgent),
		ends(onDisk(scenario{name: "agent / disk full / a hook prints much", play: fullBesideAHook}, 64, ofAgent), job.Succeeded, job.Warning, job.Failed),
		cancelIn(before, job.Cancelled),
		cancelIn(betweenHooks(60), job.Cancelled),
		cancelIn(after, job.Warning), // the archive is made; only the hook is ended
	}
	cut := over(direct, reconnects(
		broken("link", before, cutForLong), broken("link", betweenHooks(6), cutForLong), broken("link", after, cutForLong),
	)...)
	cut = append(cut, over(direct, misbehaves("hang", "hangs"), cancelIn(before, job.Cancelled), cancelIn(betweenHooks(60), job.Cancelled))...)
	return withHooks(append(cases, cut...)...)
}

// fullBesideAHook fills the disk of the agent while a hook waits to print.
func fullBesideAHook(s *scene) {
	s.host.holdHook("much")
	s.hooked(around("much"))
	s.hookBegun("much")
	s.disk.Fill()
	s.host.releaseHook("much")
	s.hookBegun("after")
	s.disk.Free()
	s.is(job.Succeeded, job.Warning, job.Failed)
}
