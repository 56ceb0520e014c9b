// Package catalog keeps the files of archives as borg listed them, and serves
// them: a directory of an archive, a search by name, one path through all
// archives of a repository.
//
// A job of kind list with an archive in its spec streams what borg prints.
// [Catalog.Run] reads the stream while the job runs, sorts it with bounded
// memory, and keeps it as one file when the job has ended well. A listing is
// whole or not there: files are made beside, synced, and renamed; every part of
// them has a checksum, and what does not fit it is thrown away and counts as
// not listed. Listings can be made again at any time, so copies of the
// coordinator's state leave them out.
//
// DESIGN.md has the format of the file, and what was rejected.
package catalog
