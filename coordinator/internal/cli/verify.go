package cli

import "github.com/borgfleet/borgfleet/shared/job"

type hostVerify struct {
	Name string `arg:"" help:"The host's name."`
	Repo string `help:"Also whether the host can reach and read this repository." placeholder:"REPOSITORY" aliases:"repository"`

	AcceptMoved  bool `help:"The repository was moved, and this is where it is now: let the host use it there."`
	AcceptOlder  bool `help:"The repository was rolled back, or restored from a copy, and that is right."`
	RebuildCache bool `help:"Forget borg's cache of the repository on the host. Nothing is lost; the next backup takes longer."`
	deadlines
}

// Help is the end of the command's help.
func (hostVerify) Help() string {
	return `Examples:

    borgfleet host verify web1
    borgfleet host verify web1 --repo main
    borgfleet host verify web1 --repo main --accept-moved

A host over SSH is connected to first. Looks for borg and its version, for what it takes to mount archives, and for space; with --repo also whether the repository can be read with the passphrase that is kept for it. Whatever is not good comes with what to do about it; the exit code is then 3, or 4 if the repository cannot be read.`
}

// Run runs the command.
func (c hostVerify) Run(s *session) error {
	if c.Repo == "" && (c.AcceptMoved || c.AcceptOlder || c.RebuildCache) {
		return job.Invalid("repo", "--accept-moved, --accept-older and --rebuild-cache are about a repository").WithHint("name it with --repo")
	}
	spec := job.VerifySpec{AcceptMoved: c.AcceptMoved, AcceptOlder: c.AcceptOlder, RebuildCache: c.RebuildCache}
	api, request, err := s.prepare(place{host: c.Name, repository: c.Repo, deadlines: c.deadlines}, spec)
	if err != nil {
		return err
	}
	submitted, err := api.VerifyHost(s.ctx, request, spec)
	if err != nil {
		return err
	}
	return s.watch(api, submitted.ID)
}

// printChecks shows what a host was verified for.
func (s *session) printChecks(checks []job.Finding) {
	t := newFacts(s.Out)
	for _, check := range checks {
		state := "good"
		if !check.Good {
			state = "BAD"
		}
		t.row("  "+state, check.Name, check.Detail)
		if check.Hint != "" {
			t.row("", "", "hint: "+check.Hint)
		}
	}
	t.end()
}
