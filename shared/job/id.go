package job

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// ID names a job: a ULID in its canonical form of 26 upper-case characters.
// IDs sort by the time of submission and are safe in subjects and file names.
type ID string

// NewID returns a fresh ID for the given moment. IDs made within one
// millisecond are in random order. It is safe for concurrent use.
func NewID(at time.Time) ID {
	return ID(ulid.MustNew(ulid.Timestamp(at), rand.Reader).String())
}

// ParseID checks that text is a well-formed job ID.
func ParseID(text string) (ID, error) {
	id, err := ulid.ParseStrict(text)
	if err != nil || id.String() != text {
		return "", Invalid("id", "%q is not a job id", text).
			WithHint("a job id has 26 characters, for example 01JD9X7Q2M4T6W8Y0ABCDEFGHJ")
	}
	return ID(text), nil
}

// Short returns the last six characters, enough to tell jobs apart in a sentence.
func (id ID) Short() string {
	if len(id) <= 6 {
		return string(id)
	}
	return string(id[len(id)-6:])
}

// AttemptID names one attempt of one job, for example in a directory's name.
func (id ID) AttemptID(attempt int) string { return fmt.Sprintf("%s.%d", id, attempt) }

// Time is when the job was submitted, to the millisecond; the zero time for what
// is no ID.
func (id ID) Time() time.Time {
	parsed, err := ulid.ParseStrict(string(id))
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(parsed.Time())
}
