// Package borg is what borgfleet knows of BorgBackup 1.2 and 1.4: the command
// line and environment of every kind of job, the meaning of what borg prints
// while it runs, and the outcome that its exit code and last words amount to.
//
// The package is pure. It starts no process, reads no clock and touches no
// file: bytes go in, values come out, and the same bytes always give the same
// values. An agent that restarts in the middle of a backup therefore parses
// borg's output again from its first byte and knows what it knew before.
//
// DESIGN.md beside this file says what was measured and what was rejected.
package borg
