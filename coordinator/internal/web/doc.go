// Package web serves the pages that people read: the overview, hosts,
// repositories, plans and their runs, what is to come, alerts, jobs and their logs,
// and to admins notifications, people and the audit. It also signs people in.
//
// Pages are rendered here, complete without any script. One small script makes
// them live: it replaces parts by element id with fragments that the same
// templates have rendered, sent as server-sent events (see [New] for what that
// asks of the server around it).
//
// A page shows what its reader may do; whether it is done, the services decide.
// A secret that a form makes, such as a token, is in the answer to that form and
// nowhere else.
//
// Nothing here owns state. Reads and actions go through the small interfaces
// declared in this package; changes arrive by the feed.
package web
