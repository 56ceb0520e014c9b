// Package human writes sizes, counts and times for people: in one way, on the
// pages, on the command line and in messages. page.js writes times that move
// by the same rules.
package human

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// None stands where there is nothing to say.
const None = "–"

var byteUnits = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// Bytes writes a size in SI units: 512 B, 4.1 GB, 212 MB.
func Bytes[N int | int64](n N) string {
	value, unit := float64(n), 0
	for last := len(byteUnits) - 1; math.Abs(value) >= 999.5 && unit < last; unit++ {
		value /= 1000
	}
	if unit == 0 {
		return strconv.FormatInt(int64(n), 10) + " B"
	}
	decimals := 1
	if math.Abs(value) >= 99.95 {
		decimals = 0
	}
	return strconv.FormatFloat(value, 'f', decimals, 64) + " " + byteUnits[unit]
}

// Rate writes bytes a second: 118 MB/s.
func Rate(n int64) string { return Bytes(n) + "/s" }

// Count writes a number with its thousands separated: 148,210.
func Count[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	start := len(digits) % 3
	if n < 0 {
		start = (len(digits)-1)%3 + 1
	}
	var out strings.Builder
	out.WriteString(digits[:start])
	for i := start; i < len(digits); i += 3 {
		if i > 0 && digits[i-1] != '-' {
			out.WriteByte(',')
		}
		out.WriteString(digits[i : i+3])
	}
	return out.String()
}

// Share writes a part of one as percent: 41 %. Small ones keep a digit: 0.3 %.
func Share(part float64) string {
	decimals := 0
	switch {
	case part > 0 && part < 0.0005:
		return "< 0.1 %"
	case part > 0 && part < 0.0995:
		decimals = 1
	}
	return strconv.FormatFloat(part*100, 'f', decimals, 64) + " %"
}

// Duration writes a span in its two largest units: 1 min 40 s, 3 d 4 h, 0.4 s.
// A negative one is none at all: 0 s.
func Duration(d time.Duration) string {
	if d > 0 && d < 950*time.Millisecond {
		return strconv.FormatFloat(math.Max(d.Seconds(), 0.1), 'f', 1, 64) + " s"
	}
	s := int64(max(d, 0).Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return units(s, "s", 0, "")
	case s < 3600:
		return units(s/60, "min", s%60, "s")
	case s < 86400:
		return units(s/3600, "h", s%3600/60, "min")
	default:
		return units(s/86400, "d", s%86400/3600, "h")
	}
}

func units(large int64, name string, small int64, smallName string) string {
	text := strconv.FormatInt(large, 10) + " " + name
	if small > 0 {
		text += " " + strconv.FormatInt(small, 10) + " " + smallName
	}
	return text
}

// Seconds is Duration of a number of seconds, as results and estimates hold it.
func Seconds[N float64 | int64](s N) string {
	return Duration(time.Duration(float64(s) * float64(time.Second)))
}

// Age writes how long ago something was: just now, 2 s ago, 11 h ago, 3 d 4 h ago.
func Age(d time.Duration) string {
	if d < 2*time.Second {
		return "just now"
	}
	return elapsed(d) + " ago"
}

// Ago is the Age that a moment has now.
func Ago(at, now time.Time) string { return Age(now.Sub(at)) }

// elapsed is coarser than Duration: nobody asks how many seconds an hour ago.
func elapsed(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	case d < 24*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h"
	case d < 14*24*time.Hour:
		return Duration(d.Truncate(time.Hour))
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + " d"
	}
}

// Noun is a noun in the number that goes with n: job, jobs, repositories.
func Noun[N int | int64](n N, noun string) string {
	stem, isY := strings.CutSuffix(noun, "y")
	switch {
	case n == 1:
		return noun
	case isY:
		return stem + "ies"
	default:
		return noun + "s"
	}
}

// Plural writes a count with its noun: 1 job, 3 jobs, 2 repositories.
func Plural[N int | int64](n N, noun string) string { return Count(n) + " " + Noun(n, noun) }
