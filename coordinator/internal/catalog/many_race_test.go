//go:build race

package catalog_test

// manyFiles is how many files a large listing has. The race detector makes
// everything ten times slower; make bench lists a million.
const manyFiles = 50_000
