package borg

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// restoreTestScript chooses files of an archive, restores them into a scratch
// directory, and compares them with what is on the host. It is a shell script for
// the reasons of lockScript.
//
//go:embed restoretest.sh
var restoreTestScript string

// restoreTestName is what the script calls itself in an error of the shell.
const restoreTestName = "restore-test"

// sampleKeys are what the script reads of each file of the archive.
const sampleKeys = "{type}{mode}{size}{ctime}{path}"

// restoreTestOptions are those of borg extract. Flags are not restored, since an
// immutable file could not be removed again.
func restoreTestOptions() []string {
	return []string{"--progress", "--sparse", "--numeric-ids", "--noflags", "--noxattrs", "--noacls"}
}

// restoreTestCommand wraps borg extract, without what is to be extracted, in the
// script, together with a borg list that has the same common options.
func restoreTestCommand(task Task, spec job.RestoreTestSpec, argv []string) []string {
	source, canary, target := "host", "", ""
	if spec.NoSource || task.For != "" && task.For != task.Host {
		source = "none"
	}
	if spec.Canary != nil {
		canary = spec.Canary.Name
	}
	if spec.Target != "" {
		target = path.Clean(spec.Target)
	}
	end := len(argv) - len(restoreTestOptions()) - 2 // "--" and the archive
	list := append([]string{argv[0], "list"}, argv[2:end]...)
	list = append(list, "--json-lines", "--format="+sampleKeys, "--", argv[len(argv)-1])
	script := []string{"/bin/sh", "-c", restoreTestScript, restoreTestName, target, source,
		strconv.Itoa(cmp.Or(spec.Files, job.DefaultSampleFiles)), strconv.FormatInt(cmp.Or(spec.Bytes, job.DefaultSampleBytes), 10),
		strconv.FormatUint(uint64(spec.Seed)%(math.MaxInt32-1)+1, 10), canary, strconv.Itoa(len(list))}
	return slices.Concat(script, list, argv)
}

// tested is what the script prints, a line each: why it did not begin; what it
// has chosen; one file; and that it is done.
type tested struct {
	Refused string  `json:"refused"`
	Said    string  `json:"said"`
	FilesOf int64   `json:"files_of"`
	Large   int64   `json:"large"` // files that are too large for the sample
	Began   float64 `json:"began"`
	Ended   float64 `json:"ended"`
	Scratch string  `json:"scratch"`
	What    string  `json:"what"` // file or canary
	job.EvidenceFile
	Done bool `json:"done"`
}

// Verdicts of the script.
const (
	fileSame      = "same"
	fileChanged   = "changed"
	fileGone      = "gone"
	fileDifferent = "different"
	fileMissing   = "missing"
	fileCanary    = "canary"
)

// errTestCut says that the script has not come to its end.
var errTestCut = errors.New("the test did not come to its end")

// readTest reads what the script has printed. A refusal is all there is then.
func (p *Parser) readTest() (evidence *job.Evidence, large int64, refused tested, err error) {
	spec, _ := p.task.Spec.(job.RestoreTestSpec)
	evidence = &job.Evidence{Archive: spec.Archive, Sample: []job.EvidenceFile{}}
	if spec.Canary != nil {
		evidence.Canary = new(bool)
	}
	lines := json.NewDecoder(bytes.NewReader(p.stdout))
	for {
		var said tested
		switch err := lines.Decode(&said); {
		case errors.Is(err, io.EOF):
			return nil, 0, refused, errTestCut
		case err != nil:
			return nil, 0, refused, fmt.Errorf("read what was tested: %w", err)
		case said.Refused != "":
			return nil, 0, said, nil
		case said.Done:
			sortEvidence(evidence)
			return evidence, large, refused, nil
		case said.What == "":
			large, evidence.FilesOf, evidence.RestoredAt = said.Large, said.FilesOf, clean(said.Scratch)
			evidence.Seconds = math.Round(max(0, said.Ended-said.Began)*1000) / 1000
		default:
			addEvidence(evidence, said.What == fileCanary, said.EvidenceFile)
		}
	}
}

// addEvidence counts a file. Of several canaries, which are there when the host
// keeps copies of others' files, one has to be right.
func addEvidence(evidence *job.Evidence, canary bool, file job.EvidenceFile) {
	file.Path, file.SHA256, file.Verdict = clean(file.Path), clean(file.SHA256), clean(file.Verdict)
	evidence.Sample = append(evidence.Sample, file)
	if file.Verdict != fileMissing {
		evidence.Files++
		evidence.Bytes += file.Size
	}
	switch {
	case canary && evidence.Canary != nil:
		*evidence.Canary = *evidence.Canary || file.Verdict == fileCanary
	case file.Verdict == fileSame:
		evidence.Same++
	case file.Verdict == fileChanged:
		evidence.Changed++
	case file.Verdict == fileGone:
		evidence.Gone++
	case file.Verdict == fileDifferent:
		evidence.Different++
	}
}

// sortEvidence puts in front what a person has to see, and leaves out what is too
// much.
func sortEvidence(evidence *job.Evidence) {
	rank := func(file job.EvidenceFile) int {
		return slices.Index([]string{fileMissing, fileDifferent, fileCanary}, file.Verdict) & 3 // others: last
	}
	slices.SortStableFunc(evidence.Sample, func(a, b job.EvidenceFile) int { return rank(a) - rank(b) })
	evidence.Omitted = max(0, len(evidence.Sample)-job.MaxEvidence)
	evidence.Sample = evidence.Sample[:len(evidence.Sample)-evidence.Omitted]
}

// refusedTests are the causes for which the script tests nothing.
var refusedTests = map[string]cause{
	"denied": {code: job.PermissionDenied, message: "no scratch directory could be made for the restore test in {target} on {host}: {said}",
		hint: "give the directory to the agent's user, or choose another one below policy.restore: restore_test.target"},
	"link": {code: job.RefusedByHost, message: "{target} on {host} leads elsewhere by a symbolic link", hint: "give the directory itself"},
	"space": {code: job.DiskFull, message: "there is no room for the restore test in {target} on {host}: {said}",
		hint: "free some space, test a smaller sample (restore_test.size), or give a directory on another disk (restore_test.target)", final: true},
	"tools": {code: job.HostUnreachable, message: "{host} has not got what a restore test needs: {said}",
		hint: "install coreutils, or busybox, and awk there", final: true},
}

var (
	wrongFiles = cause{code: job.RestoreMismatch, message: "{said}, although it has not changed on {host} since the backup",
		hint: "either the file on {host} or the archive is damaged: look at the disk of {host}, and at the repository: borgfleet repo check {name} --host {host} --verify-data"}
	lostFiles = cause{code: job.RestoreMismatch, message: "{said}",
		hint: "the archive lists it, and borg did not restore it: see the log, and look at the repository: borgfleet repo check {name} --host {host} --verify-data"}
	wrongCanary = cause{code: job.RestoreMismatch, message: "the canary in archive {archive} is not what was backed up",
		hint: "the data that comes back is not the data that was stored: look at the repository: borgfleet repo check {name} --host {host} --verify-data"}
	noCanary = cause{code: job.RestoreMismatch, message: "the canary is not in archive {archive}",
		hint: "the backup did not store all that it was asked for: see its log for what became of the canary"}
)

// testJudged judges a restore test.
func (p *Parser) testJudged(exit Exit) job.Outcome {
	if outcome, stopped := p.stopped(exit); stopped {
		return outcome
	}
	evidence, large, refused, err := p.readTest()
	if why, known := refusedTests[refused.Refused]; known && !exit.Lost {
		return job.Outcome{State: job.Failed, Failure: p.explain(why, clean(refused.Said), exit)}
	}
	class := p.class(exit)
	switch {
	case !exit.Lost && exit.Signal == 0 && (exit.Code == 126 || exit.Code == 127):
		return job.Outcome{State: job.Failed, Failure: p.explain(noBorg, p.facts.spoken, exit)}
	case class != classOK && class != classWarning:
		return p.unwell(exit)
	case err != nil || evidence == nil || p.cut:
		return job.Outcome{State: job.Failed, Failure: p.explain(unreadable, errTestCut.Error(), exit)}
	}
	result := p.result(exit)
	result.Archive, result.Evidence, result.Target = evidence.Archive, evidence, evidence.RestoredAt
	result.OriginalSize, result.NFiles = evidence.Bytes, int64(evidence.Files)
	if failure := p.mismatch(evidence, exit); failure != nil {
		return job.Outcome{State: job.Failed, Result: result, Failure: failure}
	}
	switch {
	case evidence.FilesOf == 0:
		return warned(result, "there is no file in the archive to restore")
	case evidence.Files == 0:
		return warned(result, fmt.Sprintf("no file was restored: all %d that could be chosen from are larger than the sample may be", large))
	case len(result.Warnings) > 0:
		return job.Outcome{State: job.Warning, Result: result}
	default:
		return job.Outcome{State: job.Succeeded, Result: result}
	}
}

// mismatch returns why the archive must not be relied on, or nil.
func (p *Parser) mismatch(evidence *job.Evidence, exit Exit) *job.Failure {
	with := func(verdict string) (first string, n int) {
		for _, file := range evidence.Sample {
			if file.Verdict == verdict {
				first = cmp.Or(first, "/"+file.Path)
				n++
			}
		}
		return first, n
	}
	wrong := evidence.Canary != nil && !*evidence.Canary
	stray, _ := with(fileDifferent)
	missing, lost := with(fileMissing)
	switch {
	case p.facts.spoilt != nil:
		return p.explain(p.facts.spoilt.cause, p.facts.spoilt.said, exit)
	case evidence.Different > 0:
		return p.explain(wrongFiles, fmt.Sprintf("%s of %s came back with other content", plural(evidence.Different, stray), clean(evidence.Archive)), exit)
	case lost > 0:
		return p.explain(lostFiles, fmt.Sprintf("%s of %s did not come back", plural(lost, missing), clean(evidence.Archive)), exit)
	case wrong && stray != "":
		return p.explain(wrongCanary, "", exit)
	case wrong:
		return p.explain(noCanary, "", exit)
	default:
		return nil
	}
}

// plural names files by the first of them.
func plural(n int, first string) string {
	if n == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", strings.TrimSpace(first), n-1)
}

// scratch is where a restore, or a test of one, writes to, for people.
func (p *Parser) scratch() string {
	switch spec := p.task.Spec.(type) {
	case job.RestoreSpec:
		return spec.Target
	case job.RestoreTestSpec:
		return cmp.Or(spec.Target, "borgfleet's own directory")
	default:
		return ""
	}
}
