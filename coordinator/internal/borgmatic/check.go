package borgmatic

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// often is how often a check without a frequency runs: borgmatic's runs each
// time.
const often = "1d"

var frequencyForm = regexp.MustCompile(`^([0-9]+) (second|minute|hour|day|week|month|year)s?$`)

// span writes how often something happens.
func span(frequency string) (fleet.Span, error) {
	switch frequency {
	case "", "always":
		return often, nil
	}
	match := frequencyForm.FindStringSubmatch(frequency)
	if match == nil {
		return "", fmt.Errorf("%q says not how often", frequency)
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		return "", fmt.Errorf("%q says not how often", frequency)
	}
	switch unit := match[2]; unit {
	case "second", "minute", "hour":
		return fleet.Span(match[1] + unit[:1]), nil
	case "week":
		n *= 7
	case "month":
		n *= 30
	case "year":
		n *= 365
	}
	return fleet.Span(strconv.Itoa(n) + "d"), nil
}

// checks maps checks: names, or names with how often.
func (r *reader) checks() {
	policy := fleet.CheckPolicy{}
	for _, entry := range entries(r.take("checks"), "name") {
		e := &config{file: r.file, keys: entry}
		name, frequency := e.text("name"), e.text("frequency")
		every, err := span(frequency)
		if err != nil {
			r.note("checks."+name, "%s; it is left out", err)
			continue
		}
		if most := e.text("max_duration"); most != "" && name == "repository" {
			policy.MaxDuration = fleet.Span(most + "s")
		}
		switch {
		case name == "disabled" || frequency == "never":
			policy = fleet.CheckPolicy{}
		case name == "repository" || name == "archives":
			policy.Every = shorter(policy.Every, every)
		case name == "data":
			policy.VerifyData = every
		case name == "extract":
			r.spec.RestoreTest = &fleet.RestoreTest{Every: every}
		default:
			r.note("checks."+name, "it is not mapped: restore_test compares files with their source")
		}
		for _, key := range []string{"only_run_on", "count_tolerance_percentage", "data_sample_percentage", "data_tolerance_percentage", "xxh64sum_command"} {
			if _, said := e.keys[key]; said {
				r.note("checks."+name+"."+key, "it is not mapped")
			}
		}
	}
	if policy != (fleet.CheckPolicy{}) {
		r.spec.Check = &policy
	}
}

// shorter returns the shorter of two lengths of time; an empty one is none.
func shorter(one, other fleet.Span) fleet.Span {
	if one == "" || other != "" && other.Duration() < one.Duration() {
		return other
	}
	return one
}
