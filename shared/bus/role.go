package bus

import "slices"

// Role is what an operator's credentials allow.
type Role string

// Roles of operators: a viewer reads, an operator also runs and cancels jobs,
// an admin also changes hosts, repositories and people.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
)

// Roles returns every role, the weakest first.
func Roles() []Role { return []Role{Viewer, Operator, Admin} }

// Includes reports whether r may do all that other may. A role that is not
// known includes none, and is included in none.
func (r Role) Includes(other Role) bool {
	own, asked := slices.Index(Roles(), r), slices.Index(Roles(), other)
	return own >= 0 && asked >= 0 && own >= asked
}

// OperatorPermissions is all that an operator's client may do, in the account
// OPERATORS. Replies arrive below _INBOX with a random prefix, as the stock
// client chooses it.
func OperatorPermissions(role Role) Permissions {
	permissions := Permissions{
		Publish: []string{
			JobsGet, JobsList, JobsLog, StatusSubject, Discovery,
			HostsList, HostsGet, RepositoriesList, RepositoriesGet,
			PlansList, PlansGet,
			ArchivesList, ArchivesFiles, ArchivesFind, ArchivesHistory,
		},
		Subscribe: []string{Prefix + ".>", "_INBOX.>"},
	}
	if role.Includes(Operator) {
		permissions.Publish = append(Requests(), Discovery)
	}
	return permissions
}

// Discovery is where the stock client finds micro services.
const Discovery = "$SRV.>"

// Requests returns the subjects that the coordinator serves to operators. The
// account FLEET exports them to the account OPERATORS.
func Requests() []string {
	return []string{
		Prefix + ".jobs.*", Prefix + ".hosts.*", Prefix + ".repositories.*",
		Prefix + ".plans.*", Prefix + ".archives.*", StatusSubject,
	}
}

// Changes returns the subjects where operators watch what happens. The account
// FLEET exports them to the account OPERATORS.
func Changes() []string {
	return []string{Prefix + ".event.>", Prefix + ".progress.>", Prefix + ".heartbeat.>", Prefix + ".run.>", Prefix + ".alert.>"}
}

// serviceReply begins the reply subjects that a server makes for requests that
// come from another account. A server lets no client choose one.
const serviceReply = "_R_"

// FromOperator reports whether a reply subject was made by a server for a
// request from the account OPERATORS. What the server says of such a request
// does not come from the account FLEET itself.
func FromOperator(reply string) bool { return within(serviceReply, reply) }

// EnrolPermissions is for whoever comes without credentials: it may ask for
// some, and receive the answer.
func EnrolPermissions() Permissions {
	return Permissions{Publish: []string{Enrol}, Subscribe: []string{enrolInbox + ".>"}}
}

// AgentsConnection names the coordinator's connection to the agents.
const AgentsConnection = "agents"

// PrivateInbox is where the coordinator's own connections receive replies. It
// is no place that any agent or operator may publish to, subscribe to, or have
// replies sent to.
func PrivateInbox(connection string) string { return "_COORDINATOR." + connection }

// AgentsPermissions is for the coordinator's connection to the agents. It may
// answer only into inboxes.
func AgentsPermissions() Permissions {
	return Permissions{
		Publish:   []string{Prefix + ".cmd.>", "_INBOX.>", enrolInbox + ".>"},
		Subscribe: []string{AllHellos, AllProgress, AllRenewals, Enrol, PrivateInbox(AgentsConnection) + ".>"},
	}
}

// StreamPermissions is for the coordinator's connection to the stream, which
// answers nobody.
func StreamPermissions() Permissions {
	return Permissions{
		Publish:   []string{"$JS.API.>", "$JS.ACK.>", "$JS.FC.>"},
		Subscribe: []string{PrivateInbox("stream") + ".>"},
	}
}

// APIPermissions is for the coordinator's connection that serves operators. It
// has no right on any stream, and answers only where the server leads the
// answer back to who asked.
func APIPermissions() Permissions {
	return Permissions{
		Publish:   append(Changes(), serviceReply+".>"),
		Subscribe: append(Requests(), Discovery, PrivateInbox("api")+".>"),
	}
}

// SystemPermissions is for the coordinator's connection in the system account:
// notices of clients that come and go, and disconnecting one.
func SystemPermissions() Permissions {
	return Permissions{
		Publish:   []string{"$SYS.REQ.>"},
		Subscribe: []string{"$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT", PrivateInbox("system") + ".>"},
	}
}

// Connected is where the system account tells that a client of an account,
// given by its public key, has connected.
func Connected(account string) string { return "$SYS.ACCOUNT." + account + ".CONNECT" }

// Disconnected is where the system account tells that such a client has gone.
func Disconnected(account string) string { return "$SYS.ACCOUNT." + account + ".DISCONNECT" }
