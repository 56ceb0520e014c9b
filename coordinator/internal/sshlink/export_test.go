package sshlink

// For tests: what a login shell is given, and what it reads.
const Command = command

var Wrapped = wrapped
