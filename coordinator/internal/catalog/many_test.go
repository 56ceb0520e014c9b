//go:build !race

package catalog_test

// manyFiles is how many files a large listing has.
const manyFiles = 1_000_000
