package cli

import (
	"fmt"
	"time"
)

// moment is a point in time as a person gives it: a day, a day and a time in the
// local zone, RFC 3339, or how long ago it was.
type moment struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339Nano} {
		if at, err := time.ParseInLocation(layout, string(text), time.Local); err == nil {
			m.Time = at
			return nil
		}
	}
	var ago days
	if err := ago.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is not a time, such as 2026-11-22, 2026-11-22T14:00 or 7d (ago)", text)
	}
	m.Time = time.Now().Add(-time.Duration(ago)).Truncate(time.Second)
	return nil
}
