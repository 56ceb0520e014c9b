// Package plans tests what happens by itself: plans that run when they are due,
// what belongs to their runs, and what is said when nothing happens. The clock of
// the programs is set by the test.
package plans
