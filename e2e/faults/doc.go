// Package faults breaks real programs at chosen moments and looks from the
// outside at what became of the jobs: nothing may be lost, nothing may be done
// twice, no lock may stay behind. See DESIGN.md for how a case is made.
package faults
