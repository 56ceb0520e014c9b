// Package sshhost has the tests of hosts without an agent, of the depot, and of
// the ways between them: real programs, a real sshd and borg on machines with
// networks of their own.
package sshhost
