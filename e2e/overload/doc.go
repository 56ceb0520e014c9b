// Package overload asks more of borgfleet than any fleet should: very many jobs
// at once, output without end, readers that do not read. The tests run a share
// of it; BORGFLEET_OVERLOAD=full runs all of it.
package overload
