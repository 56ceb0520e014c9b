package borg

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// phaseCreate is the phase in which files are read and stored. Other phases
// are named by borg's message ids, such as cache.sync or repository.check.
const phaseCreate = "create"

// msgExtract is the message id of the bar of a restore, which counts bytes.
const msgExtract = "extract"

// maxPercent is the most that is said of something that still runs.
const maxPercent = 99

// maxOperations bounds the progress bars that are remembered at once. Borg
// shows two at most.
const maxOperations = 16

// progress turns borg's progress lines into [job.Progress].
type progress struct {
	baseline   *job.Baseline
	numbers    job.Progress // sizes, files and percentage as last told, for the phases after
	total      int64        // restore: the bytes that it is about
	rate       meter
	operations map[operation]start
}

// operation names one progress bar. Its number alone does not: over ssh the
// server counts too.
type operation struct {
	msgID  string
	number int64
}

// start is where a progress bar was when it was first seen.
type start struct {
	at      time.Time
	percent float64
}

// update returns the progress that a line tells, without its time, or nil.
func (p *progress) update(said message) *job.Progress {
	switch {
	case said.Type == typeArchive && said.Finished:
		return nil // the last numbers stand
	case said.Type == typeArchive:
		return p.archive(said)
	case said.Finished:
		delete(p.operations, operation{said.MsgID, said.Operation})
		return nil
	default:
		return p.indicator(said)
	}
}

func (p *progress) archive(said message) *job.Progress {
	p.numbers = job.Progress{
		NFiles:           max(said.NFiles, 0),
		OriginalSize:     max(said.OriginalSize, 0),
		CompressedSize:   max(said.CompressedSize, 0),
		DeduplicatedSize: max(said.DeduplicatedSize, 0),
	}
	p.rate.add(moment(said.Time), p.numbers.OriginalSize)
	now := p.numbers
	now.Phase = phaseCreate
	now.Path = oneLine(said.Path)
	if now.Path != "" && !strings.HasPrefix(now.Path, "/") {
		now.Path = "/" + now.Path // borg stores and shows paths without it
	}
	now.Rate = p.rate.perSecond()
	now.Percent, now.ETASeconds = p.estimate(now)
	p.numbers.Percent = now.Percent
	return &now
}

// estimate compares with the previous backup of the same data.
func (p *progress) estimate(now job.Progress) (percent *float64, eta *int64) {
	base := p.baseline
	switch {
	case base == nil:
		return nil, nil
	case base.OriginalSize > 0:
		percent = share(float64(now.OriginalSize) / float64(base.OriginalSize) * 100)
	case base.NFiles > 0:
		return share(float64(now.NFiles) / float64(base.NFiles) * 100), nil
	default:
		return nil, nil
	}
	if left := base.OriginalSize - now.OriginalSize; left > 0 && now.Rate != nil && *now.Rate > 0 {
		eta = seconds(float64(left) / float64(*now.Rate))
	}
	return percent, eta
}

// indicator reads a progress bar of a step: a percentage, or only words.
func (p *progress) indicator(said message) *job.Progress {
	now := p.numbers
	now.Phase = oneLine(said.MsgID)
	now.Path = oneLine(strings.TrimPrefix(said.Message, remotePrefix))
	if said.Type != typePercent {
		return &now
	}
	value, ok := percentage(said)
	if !ok {
		return &now
	}
	if said.MsgID == msgExtract && said.Total > 0 {
		p.extract(&now, said)
	}
	now.Percent = share(value)
	now.ETASeconds = p.extrapolate(operation{said.MsgID, said.Operation}, moment(said.Time), value)
	return &now
}

// extract reads the bar of a restore. What borg writes just now counts as
// written.
func (p *progress) extract(now *job.Progress, said message) {
	p.total = said.Total
	p.numbers.OriginalSize = min(max(said.Current, 0), said.Total)
	p.rate.add(moment(said.Time), p.numbers.OriginalSize)
	now.OriginalSize = p.numbers.OriginalSize
	now.Rate = p.rate.perSecond()
	if len(said.Info) > 0 {
		now.Path = oneLine(said.Info[0])
	}
}

// extrapolate estimates the seconds that a step still takes from the pace it
// had so far. The first seconds and the first percent tell nothing.
func (p *progress) extrapolate(of operation, at time.Time, percent float64) *int64 {
	const minTime, minPercent = 5 * time.Second, 1
	began, ok := p.operations[of]
	if !ok || percent < began.percent || at.Before(began.at) {
		if p.operations == nil || len(p.operations) >= maxOperations {
			p.operations = make(map[operation]start)
		}
		p.operations[of] = start{at: at, percent: percent}
		return nil
	}
	elapsed, done := at.Sub(began.at), percent-began.percent
	if elapsed < minTime || done < minPercent {
		return nil
	}
	return seconds(elapsed.Seconds() * (100 - percent) / done)
}

var percentInWords = regexp.MustCompile(`([0-9]{1,3}(?:\.[0-9]{1,4})?)%`)

// percentage prefers the number in borg's words, as borg counts an item before
// it is done.
func percentage(said message) (float64, bool) {
	if match := percentInWords.FindStringSubmatch(said.Message); match != nil {
		value, err := strconv.ParseFloat(match[1], 64)
		return value, err == nil
	}
	if said.Total <= 0 || said.Current < 0 {
		return 0, false
	}
	return float64(said.Current) / float64(said.Total) * 100, true
}

// share rounds a percentage to tenths and keeps it within 0 and maxPercent.
func share(percent float64) *float64 {
	percent = math.Round(min(max(percent, 0), maxPercent)*10) / 10
	return &percent
}

func seconds(n float64) *int64 {
	const year = 365 * 24 * 3600
	if n < 0 || n > year { // beyond a year it is no estimate
		return nil
	}
	whole := int64(math.Ceil(n))
	return &whole
}

// meter measures a rate as an exponentially weighted mean over about the last
// meterSpan seconds, by borg's clock. Borg's speed jumps between unchanged
// files, which cost nothing, and new ones; a plain quotient of neighbours
// would jump with it.
type meter struct {
	last          time.Time
	lastBytes     int64
	mean, weight  float64
	observedSince time.Time
}

const meterSpan = 15.0

func (m *meter) add(at time.Time, bytes int64) {
	if at.IsZero() {
		return
	}
	if m.last.IsZero() {
		m.last, m.lastBytes, m.observedSince = at, bytes, at
		return
	}
	elapsed := at.Sub(m.last).Seconds()
	if elapsed <= 0 {
		return
	}
	current := max(float64(bytes-m.lastBytes), 0) / elapsed
	share := 1 - math.Exp(-elapsed/meterSpan)
	m.mean += share * (current - m.mean)
	m.weight += share * (1 - m.weight)
	m.last, m.lastBytes = at, bytes
}

// perSecond returns bytes a second, or nil before there is a second to judge by.
func (m *meter) perSecond() *int64 {
	if m.weight == 0 || m.last.Sub(m.observedSince) < time.Second {
		return nil
	}
	rate := m.mean / m.weight
	if rate < 0 || rate > math.MaxInt64/2 {
		return nil
	}
	whole := int64(rate)
	return &whole
}
