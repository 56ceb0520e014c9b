package web

import (
	"net/http"
	"strconv"

	"github.com/borgfleet/borgfleet/shared/job"
)

// This file has the forms that look after a repository.

// repositoryForm begins a form about a repository: with the host to run on.
func (s *site) repositoryForm(r *http.Request, v *typed, part string, suggested ...string) (*jobForm, error) {
	name := r.PathValue("repository")
	repository, err := s.Repositories.Repository(r.Context(), name)
	if err != nil {
		return nil, err
	}
	host, chosen, err := s.hostField(r.Context(), v, task{name, kindOf(part)}, append(suggested, s.lastHost(r.Context(), name))...)
	if err != nil {
		return nil, err
	}
	form := &jobForm{
		Nav: "/repositories", Key: v.Get("key"), Crumbs: []crumb{{"Repositories", "/repositories"}, {name, repositoryURL(name)}, {Label: part}},
		NoHost: len(host.Choices) == 0, request: job.Request{Host: chosen, Repository: name}, Fields: []field{host},
	}
	if form.Key == "" {
		form.Key = newKey(s)
	}
	if form.NoHost && repository.Depot != nil {
		form.Closed = name
	}
	return form, nil
}

// kindOf is the kind of the jobs that a form makes.
func kindOf(part string) job.Kind {
	switch part {
	case "repair":
		return job.Check
	case "compare":
		return job.Diff
	}
	return job.Kind(part)
}

// words is the command line of a form: options with what was typed, if anything.
func (f *jobForm) words(command []string, options ...any) {
	f.cli = append(command, "--host", orHOST(f.request.Host))
	for i := 0; i < len(options); i += 2 {
		name := options[i].(string)
		switch value := options[i+1].(type) {
		case bool:
			if value {
				f.cli = append(f.cli, name)
			}
		case int:
			if value != 0 {
				f.cli = append(f.cli, name, strconv.Itoa(value))
			}
		case string:
			if value != "" {
				f.cli = append(f.cli, name, value)
			}
		}
	}
}

func (f *jobForm) add(fields ...field) { f.Fields = append(f.Fields, fields...) }

func textField(v *typed, name, label, help string) field {
	return field{Name: name, Label: label, Kind: "text", Value: v.text(name), Help: help}
}

func checkField(v *typed, name, label, help string) field {
	return field{Name: name, Label: label, Kind: "check", Checked: v.checked(name), Help: help, Wide: true}
}

func numberField(v *typed, name, label, standard string) field {
	return field{Name: name, Label: label, Kind: "number", Value: v.or(name, standard)}
}

func (s *site) checkForm(r *http.Request, v *typed) (*jobForm, error) {
	form, err := s.repositoryForm(r, v, "check")
	if err != nil {
		return nil, err
	}
	name := form.request.Repository
	spec := job.CheckSpec{Prefix: v.text("prefix"), MaxDuration: v.seconds("max_duration"), Last: v.count("last")}
	depth := v.or("depth", "quick")
	spec.RepositoryOnly, spec.VerifyData = depth == "quick", depth == "data"
	if spec.MaxDuration > 0 && spec.VerifyData {
		form.wrong = append(form.wrong, job.Fail(job.InvalidSpec, "max_duration: only the quick check can be cut short"))
	}
	form.Title, form.Button, form.spec = "Check "+name, "Check", spec
	form.About = "A check reads only. If something is damaged, the job fails with `integrity_error` and names it."
	form.add(
		field{Name: "depth", Label: "How thoroughly", Kind: "select", Also: []string{"verify_data", "repository_only"}, Choices: labelled(depth,
			choice{Value: "quick", Label: "quick: the repository's segments"},
			choice{Value: "full", Label: "full: also the archives' metadata"},
			choice{Value: "data", Label: "full with data: read and verify every chunk; slow"})},
		field{Name: "max_duration", Label: "At most", Kind: "text", Value: v.text("max_duration"), Placeholder: "no limit", Help: "Such as `2h`: stop then, and go on there next time. Only for the quick check."},
		field{Name: "last", Label: "Only the newest", Kind: "number", Value: v.text("last"), Placeholder: "all archives", Help: "Only for the full ones."},
		textField(v, "prefix", "Only archives that begin with", "Only for the full ones."),
	)
	form.words([]string{"repo", "check", name}, "--verify-data", spec.VerifyData, "--repository-only", spec.RepositoryOnly,
		"--max-duration", seconds(spec.MaxDuration), "--last", spec.Last, "--prefix", spec.Prefix)
	return form, nil
}

// seconds is a number of seconds as the command line takes it; empty for none.
func seconds(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n) + "s"
}

// labelled is a menu of which one is chosen.
func labelled(chosen string, list ...choice) []choice {
	for i := range list {
		list[i].Selected = list[i].Value == chosen
	}
	return list
}

func (s *site) repairForm(r *http.Request, v *typed) (*jobForm, error) {
	form, err := s.repositoryForm(r, v, "repair")
	if err != nil {
		return nil, err
	}
	name := form.request.Repository
	form.Title, form.Button, form.Ask = "Repair "+name, "Repair "+name, name
	form.About = "Borg mends what can be mended. A check says beforehand what is damaged."
	form.Happens = []string{
		"It changes the repository, and what it takes away does not come back.",
		"Damaged segments lose what cannot be read in them. Archives whose metadata is lost are removed.",
		"Parts of files that are lost are replaced by zeros. A later backup of a file that is still the same on its host brings them back.",
		"If the disk may be failing, copy the repository to another one before.",
	}
	spec := job.CheckSpec{Repair: true, RepositoryOnly: v.checked("repository_only")}
	form.spec = spec
	form.add(checkField(v, "repository_only", "Only its segments, not the archives", "What the archives have lost then shows in the next full check."))
	form.words([]string{"repo", "check", name}, "--repair", true, "--repository-only", spec.RepositoryOnly)
	return form, nil
}

func (s *site) compactForm(r *http.Request, v *typed) (*jobForm, error) {
	form, err := s.repositoryForm(r, v, "compact")
	if err != nil {
		return nil, err
	}
	name := form.request.Repository
	spec := job.CompactSpec{Threshold: v.count("threshold")}
	form.Title, form.Button, form.spec = "Compact "+name, "Compact", spec
	form.About = "Frees the space of archives that were deleted or pruned. Nothing that is in an archive goes."
	form.add(field{Name: "threshold", Label: "Rewrite a segment when it saves this many percent", Kind: "number", Value: v.text("threshold"), Placeholder: "10", Help: "A lower one frees more, and takes longer."})
	form.words([]string{"repo", "compact", name}, "--threshold", spec.Threshold)
	return form, nil
}

// keepRules are the fields of what a prune keeps, and what they start with.
var keepRules = []struct{ name, label, standard string }{
	{"keep_last", "Newest", ""}, {"keep_hourly", "Hourly", ""}, {"keep_daily", "Daily", "7"}, {"keep_weekly", "Weekly", "4"},
	{"keep_monthly", "Monthly", "6"}, {"keep_yearly", "Yearly", ""},
}

// pruneForm previews a prune: what it keeps and why, and what would go.
func (s *site) pruneForm(r *http.Request, v *typed) (*jobForm, error) {
	form, err := s.repositoryForm(r, v, "prune")
	if err != nil {
		return nil, err
	}
	name, numbers := form.request.Repository, map[string]int{}
	form.add(field{Name: "which", Label: "Of which archives", Kind: "select", Also: []string{"all"}, Choices: labelled(v.Get("which"),
		choice{Value: "", Label: "those that the host has named by itself"}, choice{Value: "prefix", Label: "those that begin with …"}, choice{Value: "all", Label: "all of the repository"}),
		Help: "Never those that another host has made: then it is refused."})
	form.add(textField(v, "prefix", "Begin with", "For the second choice."))
	bare := !v.sent && v.Get("keep_within") == "" // rules in the address replace the usual ones
	for _, rule := range keepRules {
		bare = bare && !v.Has(rule.name)
	}
	for _, rule := range keepRules {
		if !bare {
			rule.standard = ""
		}
		numbers[rule.name] = v.countOr(rule.name, rule.standard)
		form.add(numberField(v, rule.name, "Keep "+lower(rule.label), rule.standard))
	}
	form.add(field{Name: "keep_within", Label: "Keep all within", Kind: "text", Also: []string{"spec"}, Value: v.text("keep_within"), Placeholder: "2d", Help: "A number and one of `H` `d` `w` `m` `y`."})
	spec := job.PruneSpec{
		KeepWithin: v.text("keep_within"), KeepLast: numbers["keep_last"], KeepHourly: numbers["keep_hourly"], KeepDaily: numbers["keep_daily"],
		KeepWeekly: numbers["keep_weekly"], KeepMonthly: numbers["keep_monthly"], KeepYearly: numbers["keep_yearly"],
		All: v.Get("which") == "all", DryRun: true,
	}
	if v.Get("which") == "prefix" {
		if spec.Prefix = v.text("prefix"); spec.Prefix == "" {
			form.wrong = append(form.wrong, job.Fail(job.InvalidSpec, "prefix: is empty"))
		}
	}
	form.Title, form.Button, form.spec = "Prune "+name, "Preview", spec
	form.About = "Deletes the archives that no rule keeps. First a dry run shows which rule keeps what, and what would go."
	form.Note, form.Dense = "Nothing is deleted yet.", true
	form.cli = pruneWords(name, orHOST(form.request.Host), spec)
	return form, nil
}

func lower(text string) string { return string(text[0]|0x20) + text[1:] }

// pruneWords is the command line of a prune.
func pruneWords(name, host string, spec job.PruneSpec) []string {
	form := &jobForm{request: job.Request{Host: host}}
	form.words([]string{"repo", "prune", name}, "--keep-within", spec.KeepWithin, "--keep-last", spec.KeepLast, "--keep-hourly", spec.KeepHourly,
		"--keep-daily", spec.KeepDaily, "--keep-weekly", spec.KeepWeekly, "--keep-monthly", spec.KeepMonthly, "--keep-yearly", spec.KeepYearly,
		"--prefix", spec.Prefix, "--all", spec.All, "--preview", spec.DryRun, "--confirm", spec.Confirmed)
	return form.cli
}

// verifyForm verifies a host, with or without a repository. One of them is in its
// address.
func (s *site) verifyForm(r *http.Request, v *typed) (*jobForm, error) {
	if r.PathValue("host") != "" {
		return s.verifyHost(r, v)
	}
	form, err := s.repositoryForm(r, v, "verify")
	if err != nil {
		return nil, err
	}
	name := form.request.Repository
	form.Title = "Verify " + name
	form.About = "Looks from a host whether " + name + " can be reached and read with the passphrase that is kept for it, and whether the host can do its work."
	form.verify(r, v, true)
	return form, nil
}

func (s *site) verifyHost(r *http.Request, v *typed) (*jobForm, error) {
	host, err := s.Hosts.Host(r.Context(), r.PathValue("host"))
	if err != nil {
		return nil, err
	}
	repositories, err := s.Repositories.Repositories(r.Context())
	if err != nil {
		return nil, wrap("repositories", err)
	}
	names := make([]string, len(repositories))
	for i, repository := range repositories {
		names[i] = repository.Name
	}
	chosen := v.text("repository")
	form := &jobForm{
		Title: "Verify " + host.Name, Nav: "/hosts", Key: v.Get("key"), Crumbs: []crumb{{"Hosts", "/hosts"}, {host.Name, hostURL(host.Name)}, {Label: "verify"}},
		About:   "Looks for borg and its version, for what it takes to mount archives, and for space. Whatever is not good comes with what to do about it.",
		request: job.Request{Host: host.Name, Repository: chosen},
		Fields:  []field{{Name: "repository", Label: "Also whether it can read", Kind: "select", Choices: choices(chosen, "no repository", names)}},
	}
	if form.Key == "" {
		form.Key = newKey(s)
	}
	form.verify(r, v, chosen != "")
	return form, nil
}

// verify adds what both forms of that have.
func (f *jobForm) verify(r *http.Request, v *typed, repository bool) {
	spec := job.VerifySpec{RebuildCache: v.checked("rebuild_cache")}
	if readerOf(r.Context()).Administers() {
		spec.AcceptMoved, spec.AcceptOlder = v.checked("accept_moved"), v.checked("accept_older")
		f.add(checkField(v, "accept_moved", "The repository was moved, and this is where it is now", "Lets the host use it there."),
			checkField(v, "accept_older", "The repository was rolled back, or restored from a copy, and that is right", ""))
	}
	f.add(checkField(v, "rebuild_cache", "Forget borg's cache of the repository on the host", "Nothing is lost; the next backup takes longer."))
	if !repository && spec != (job.VerifySpec{}) {
		f.wrong = append(f.wrong, job.Fail(job.InvalidSpec, "repository: is not chosen").WithHint("what you have ticked is about one"))
	}
	f.spec, f.Button, f.try = spec, "Verify", f.request.Host
	f.words([]string{"host", "verify", f.request.Host}, "--repo", f.request.Repository, "--accept-moved", spec.AcceptMoved, "--accept-older", spec.AcceptOlder, "--rebuild-cache", spec.RebuildCache)
	f.cli = append(f.cli[:3:3], f.cli[5:]...) // the host is named already
}
