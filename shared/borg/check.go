package borg

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// damage is what a check finds: chunks that are lost, and files that lack some.
// Of a file there is one line for each chunk, next to each other.
type damage struct {
	files, chunks notes
	last          string // the file of the line before
	zeroed        int    // files that an earlier repair has filled up with zeros
	errors        int    // what borg called an error
}

var (
	damagedFile = regexp.MustCompile(`(?s)^(.+): ((?:New missing|Previously missing) file chunk (?:detected|is still missing)|Missing all-zero replacement chunk detected) \(Byte [^)]*\)`)
	damagedPart = regexp.MustCompile(`^(?:ID: [0-9a-f]+ +rebuilt index: <not found>|Data integrity error: |Archive metadata block [0-9a-f]+ is |item metadata chunk missing |.*chunk [0-9a-f]+.*(?:verification failed|integrity error))`)
)

// stillZero is what borg says, only in passing and with a good end, of a file
// that it cannot heal.
const stillZero = "Previously missing"

// add takes a log message of a check.
func (d *damage) add(said message) {
	text := strings.TrimPrefix(said.Message, remotePrefix)
	if levelOf(said.LevelName) == job.LevelError {
		d.errors++
	}
	if match := damagedFile.FindStringSubmatch(text); match != nil {
		if match[1] == d.last {
			return
		}
		d.last = match[1]
		d.files.add(match[1]+": "+match[2], job.MaxDamaged)
		if strings.HasPrefix(match[2], stillZero) {
			d.zeroed++
		}
		return
	}
	if damagedPart.MatchString(text) {
		d.chunks.add(strings.Join(strings.Fields(text), " "), job.MaxDamaged)
	}
}

// count returns how many files are damaged.
func (d *damage) count() int { return len(d.files.texts) + d.files.omitted }

// fill lists files before chunks, as they mean more to a person.
func (d *damage) fill(result *job.Result) {
	result.Damaged = d.files.texts
	room := min(job.MaxDamaged-len(d.files.texts), len(d.chunks.texts))
	result.Damaged = append(result.Damaged, d.chunks.texts[:room]...)
	result.DamagedOmitted = d.files.omitted + len(d.chunks.texts) - room + d.chunks.omitted
}

// checked judges a check that borg has brought to its end. Borg calls damage a
// warning; after a repair all is well for borg, and again in each later check,
// although files are no longer what was backed up.
func (p *Parser) checked(result *job.Result, class class, exit Exit) job.Outcome {
	spec, _ := p.task.Spec.(job.CheckSpec)
	d := &p.facts.check
	switch {
	case class == classWarning:
		said := p.firstError()
		if said == "" {
			said = p.words()
		}
		return job.Outcome{State: job.Failed, Result: result, Failure: p.explain(damaged, said, exit)}
	case spec.Repair && (d.errors > 0 || d.count() > 0):
		return warned(result, "the repository was repaired, but what was lost is lost: see what is damaged, and back up again what still exists")
	case d.count() > 0:
		return warned(result, fmt.Sprintf("the repository is consistent, but %d files in it hold zeros where an earlier repair found no data; a backup of the same data heals them, and a repair then says so: borgfleet repo check %s --host %s --repair",
			d.count(), p.task.Repository.Name, p.task.Host))
	default:
		return job.Outcome{State: job.Succeeded, Result: result}
	}
}
