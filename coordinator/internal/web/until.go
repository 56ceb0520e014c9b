package web

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// spanField asks how long something shall last.
func spanField(v *typed, standard string) field {
	return field{
		Name: "for", Label: "For", Kind: "text", Value: v.text("for"), Placeholder: standard, Suggestions: []string{"4h", "12h", "1d", "7d", "30d"},
		Help: "Such as `12h` or `7d`. Empty: " + standard + ".",
	}
}

// untilField asks for its end instead.
func untilField(v *typed) field {
	return field{Name: "until", Label: "Or until", Kind: "text", Value: v.text("until"), Placeholder: "2026-12-01 14:00", Help: "A day, or a day and a time, UTC."}
}

// until is the end that was typed, in one way or the other; nil: none was.
func (v *typed) until(now time.Time) (*time.Time, error) {
	span, text := v.text("for"), v.text("until")
	switch {
	case span != "" && text != "":
		return nil, job.Invalid("until", "For and Until exclude each other").WithHint("fill in one of them")
	case span != "":
		length, err := fleet.Span(span).Length()
		if err != nil || length == 0 {
			return nil, job.Invalid("for", "%.40q is not a length of time", span).WithHint("for example 12h or 7d")
		}
		end := now.Add(length).UTC().Truncate(time.Second)
		return &end, nil
	case text == "":
		return nil, nil
	}
	for _, form := range []string{time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04", time.RFC3339} {
		at, err := time.Parse(form, text)
		if err != nil {
			continue
		}
		if !at.After(now) {
			return nil, job.Invalid("until", "%s is over already", text).WithHint("give a time to come")
		}
		return &at, nil
	}
	return nil, job.Invalid("until", "%.40q is not a time", text).WithHint("for example 2026-12-01, or 2026-12-01 14:00")
}
