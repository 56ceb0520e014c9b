package gate

import (
	"cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// rule says which role an action needs, and what it is called in a sentence
// that begins with "a viewer may not".
type rule struct {
	role  bus.Role
	words string
}

// rules is the one place that says who may do what. The actions are named as in
// the audit; some kinds of job need more (see fleet.StartRole). What is not here
// only reads the fleet, and everybody may who is known at all.
var rules = map[string]rule{
	"job.submit": {bus.Operator, "start jobs"},
	"job.cancel": {bus.Operator, "cancel jobs"},
	"job.retry":  {bus.Operator, "start jobs again"},

	"host.add":          {bus.Admin, "add hosts"},
	"host.remove":       {bus.Admin, "remove hosts"},
	"host.change":       {bus.Admin, "change hosts"},
	"host.convert":      {bus.Admin, "give hosts an agent"},
	"host.verify":       {bus.Operator, "verify hosts"},
	"ssh.scan":          {bus.Operator, "ask servers for their keys"},
	"ssh.key":           {bus.Admin, "see the key for hosts over SSH"},
	"host.token.add":    {bus.Admin, "enrol hosts"},
	"host.token.list":   {bus.Admin, "see enrolment tokens"},
	"host.token.remove": {bus.Admin, "remove enrolment tokens"},

	"repository.add":    {bus.Admin, "add repositories"},
	"repository.seal":   {bus.Admin, "give passphrases to hosts"},
	"repository.move":   {bus.Admin, "say where repositories are"},
	"repository.remove": {bus.Admin, "remove repositories"},
	"repository.allow":  {bus.Admin, "say who may use a repository"},
	"repository.deny":   {bus.Admin, "say who may use a repository"},

	"repository.unfreeze": {bus.Admin, "unfreeze repositories"},
	"repository.rollback": {bus.Admin, "roll repositories back"},

	"plan.add":          {bus.Admin, "add plans"},
	"plan.change":       {bus.Admin, "change plans"},
	"plan.remove":       {bus.Admin, "remove plans"},
	"plan.run":          {bus.Operator, "run plans"},
	"plan.pause":        {bus.Operator, "pause plans"},
	"plan.resume":       {bus.Operator, "resume plans"},
	"plan.accept":       {bus.Operator, "accept suspicious backups"},
	"plan.restore_test": {bus.Operator, "test restoring"},
	"run.cancel":        {bus.Operator, "cancel runs of plans"},

	"silence.add":    {bus.Operator, "silence alerts"},
	"silence.remove": {bus.Operator, "end silences"},
	"target.change":  {bus.Admin, "say where notifications go"},
	"target.remove":  {bus.Admin, "remove targets of notifications"},
	"target.test":    {bus.Operator, "send test notifications"},
	"rule.change":    {bus.Admin, "say who is notified of what"},
	"rule.remove":    {bus.Admin, "remove rules of notifications"},

	"manifest.apply": {bus.Admin, "apply manifests"},

	"operation.run":      {bus.Admin, "use the Borg operations API"},
	"repository.adopt":   {bus.Admin, "use repositories that are not known"},
	"repository.keep":    {bus.Admin, "keep passphrases of repositories"},
	"repository.abandon": {bus.Admin, "forget repositories that were adopted"},

	"user.list":               {bus.Admin, "see users"},
	"user.add":                {bus.Admin, "add users"},
	"user.role":               {bus.Admin, "change roles"},
	"user.link":               {bus.Admin, "make links for passwords"},
	"user.remove":             {bus.Admin, "remove users"},
	"token.list":              {bus.Admin, "see API tokens"},
	"token.add":               {bus.Admin, "make API tokens"},
	"token.remove":            {bus.Admin, "remove API tokens"},
	"nats.credentials.list":   {bus.Admin, "see NATS credentials"},
	"nats.credentials.add":    {bus.Admin, "make NATS credentials"},
	"nats.credentials.remove": {bus.Admin, "revoke NATS credentials"},

	"audit.read":   {bus.Admin, "read the audit"},
	"audit.verify": {bus.Admin, "check the audit"},

	"state.backup": {bus.Admin, "copy the coordinator's state"},
}

// starting returns the rule of an action that starts a job of a kind, to do what
// its spec says.
func starting(action string, kind job.Kind, spec job.Spec) rule {
	r := rules[action]
	role := fleet.StartRole(kind, spec)
	switch {
	case role == r.role:
		return r
	case role == fleet.StartRole(kind, nil):
		return rule{role, r.words + " of the kind " + string(kind)}
	case kind == job.Check:
		return rule{role, r.words + " that repair a repository"}
	case kind == job.Verify:
		return rule{role, r.words + " that accept a repository which was moved or rolled back"}
	default:
		return rule{role, r.words + " with extra options for borg"}
	}
}

// anybody is what a role is called in a sentence; an article is part of it.
func anybody(role bus.Role) string {
	names := map[bus.Role]string{bus.Viewer: "a viewer", bus.Operator: "an operator", bus.Admin: "an admin"}
	return cmp.Or(names[role], "somebody without a role")
}
