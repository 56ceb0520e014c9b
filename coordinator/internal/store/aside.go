package store

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Aside is what is kept beside a job and never shown with it.
type Aside struct {
	// Passphrase is the one that the job was given, sealed to its host; null: none,
	// or the job is over.
	Passphrase *fleet.SealedPassphrase `json:"passphrase,omitempty"`
	Given      bool                    `json:"given,omitempty"`   // it had one
	Preview    job.ID                  `json:"preview,omitempty"` // the dry run that goes before it
	// Vet is the job that looks at its repository before attempt VetFor deletes
	// anything: the last one, if it takes several.
	Vet    job.ID `json:"vet,omitempty"`
	VetFor int    `json:"vet_for,omitempty"`
	// Follows is the list of newer archives that this one goes on from.
	Follows job.ID `json:"follows,omitempty"`
	Adopt   bool   `json:"adopt,omitempty"`   // what it lists is what there is to be, see [SetFrozen]
	Settles bool   `json:"settles,omitempty"` // it lists what a job has left that could not say so
}

// PutAside stores what is kept beside a job. A passphrase in it is removed in the
// transaction that ends the job, the rest with the job.
func PutAside(id job.ID, aside Aside) Change {
	return recordPut{bucket: bucketAsides, key: string(id), value: aside}
}

// Aside returns what is kept beside a job; the zero value if nothing is.
func (s *Store) Aside(id job.ID) (Aside, error) {
	aside, _, err := one[Aside](s, bucketAsides, string(id))
	return aside, err
}

// forgetPassphrase removes the passphrase that a job was given.
func (t *transaction) forgetPassphrase(id job.ID) error {
	aside, found, err := get[Aside](t.tx, bucketAsides, string(id))
	if err != nil || !found || aside.Passphrase == nil {
		return err
	}
	aside.Passphrase = nil
	return t.put(bucketAsides, string(id), aside)
}
