// Package plan runs plans: it knows when they are due, makes their runs, asks for
// the jobs of each step, and says how fresh their backups are.
//
// What is decided (what is due, what comes next in a run, how fresh a backup is,
// whether it looks suspicious) are functions of plain data; the [Service] around
// them reads, asks and stores.
//
// Rules that everything here keeps:
//
//   - A run is stored with its plan's moved cursor before any job is asked for.
//   - Every job of a run has a key that follows from the run: asking again, after a
//     crash at any point, brings the same job.
//   - A step of a run follows from what is stored of it and of its jobs, so that it
//     can be decided again at any time.
package plan
