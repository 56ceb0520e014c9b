package store

import "slices"

// BucketsAfter returns the buckets that came with later versions of the schema
// than the given one.
func BucketsAfter(version int) []string {
	return slices.Concat([][]string{bucketsOfVersion1(), bucketsOfVersion2(), bucketsOfVersion3(), bucketsOfVersion4()}[version:]...)
}
