// Package process runs programs that outlive whoever started them. It is the
// sole owner of child processes on this machine.
//
// A run lives in a job directory: what was asked for, the two outputs, and at
// last how it ended. A small supervisor of its own session stands between the
// agent and borg; see DESIGN.md for what happens when any of them is killed.
//
// Linux only: it relies on /proc, on open file description locks and on
// process groups.
package process
