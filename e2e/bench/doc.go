// Package bench measures borgfleet from the outside, each figure beside a
// baseline taken in the same run on the same machine. `make bench` runs it and
// prints one table.
package bench
