// Package access turns credentials into a [fleet.Actor]: passwords and one-time
// links of people, web sessions, API tokens, the token of the data directory's
// owner, and the credentials for the bus that were given out.
//
// What is worth something (passwords, links, tokens, sessions) is stored as a
// hash. Who may do what is read from the store at each request, so that a change
// acts at once; DESIGN.md says what that costs, and what was rejected.
//
// A name is one identity: a session, a token that login made and credentials
// for the bus of the name alice all act as "operator:alice". Credentials for
// the bus can never do more than the user of the same name, and end with it.
// API tokens stand for themselves, as "token:ci", and stay when who made them
// goes.
package access
