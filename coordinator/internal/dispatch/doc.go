// Package dispatch owns the state of jobs: it takes submissions, decides what
// goes to which host and when, settles with hosts what has become of their
// attempts, and takes in what they tell.
//
// Rules that everything here keeps (see DESIGN.md):
//
//   - The store is changed before memory, and memory before anything is sent.
//   - After a write whose outcome is unknown, memory is read from the store again.
//   - The attempt number fences: what an older attempt says changes nothing.
//   - A job is tried again only when its last attempt is known to be over.
package dispatch
