// Package job holds the vocabulary that every part of borgfleet shares: what a
// job is, which kinds there are, what each kind may ask for, which states a job
// passes through, and how progress, results and failures look.
//
// The package is the single owner of the question "is this transition legal?"
// (see [State.CanBecome]). It imports nothing of the project's own, so that the
// agent, the coordinator, the command line and tests all speak with one voice.
// The JSON shapes are part of the public contract: fields are added, never
// renamed or removed.
package job
