// Package e2e holds the end-to-end tests: real binaries, a real borg, a real
// sshd, a real browser. They know borgfleet only from the outside.
package e2e
