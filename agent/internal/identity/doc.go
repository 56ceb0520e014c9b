// Package identity is who this host is to its coordinator: the keys that were
// made here and never leave, the credentials that go with them, and how a host
// comes by them (enrol), changes them (rotate) and keeps them alive (renew).
//
// Each file appears whole or not at all, and whatever is interrupted is gone on
// with by the same command: fresh keys wait in a directory of their own until
// the coordinator knows them, and the credentials file holds credentials that
// work at every moment.
package identity
