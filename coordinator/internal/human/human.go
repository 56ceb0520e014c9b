// Package human writes sizes, counts and times for people, in one way for the
// pages and the command line.
package human

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// None stands where there is nothing to say.
const None = "–"

// Bytes writes a size in decimal units: 31.4 GB, 212 MB, 0 B.
func Bytes(n int64) string {
	if n < 0 {
		return None
	}
	return humanize.Bytes(uint64(n))
}

// Rate writes bytes a second: 118 MB/s.
func Rate(n int64) string { return Bytes(n) + "/s" }

// Count writes a number with thousands separators: 148,210.
func Count(n int64) string { return humanize.Comma(n) }

// Share writes a ratio as a percentage: 25 %. Small ones keep a digit: 0.4 %.
func Share(ratio float64) string {
	percent := ratio * 100
	if percent > 0 && percent < 10 {
		return fmt.Sprintf("%.1f %%", percent)
	}
	return fmt.Sprintf("%.0f %%", percent)
}

// Duration writes a length of time in its two largest units: 1 min 40 s,
// 3 d 4 h, 2.1 s, 40 ms.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return None
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return two(int(d.Minutes()), "min", int(d.Seconds())%60, "s")
	case d < 24*time.Hour:
		return two(int(d.Hours()), "h", int(d.Minutes())%60, "min")
	default:
		return two(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
	}
}

func two(large int, largeUnit string, small int, smallUnit string) string {
	if small == 0 {
		return fmt.Sprintf("%d %s", large, largeUnit)
	}
	return fmt.Sprintf("%d %s %d %s", large, largeUnit, small, smallUnit)
}

// Seconds is Duration of a number of seconds, as results and estimates hold it.
func Seconds(s float64) string { return Duration(time.Duration(s * float64(time.Second))) }

// Ago writes how long before now a moment was: 11 h ago, just now.
func Ago(at, now time.Time) string {
	d := now.Sub(at)
	switch {
	case d < time.Second:
		return "just now"
	case d < 10*time.Second:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	default:
		return Duration(d) + " ago"
	}
}

// Plural writes a count with its noun: 1 job, 3 jobs, 2 repositories.
func Plural(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		return Count(int64(n)) + " " + strings.TrimSuffix(noun, "y") + "ies"
	default:
		return Count(int64(n)) + " " + noun + "s"
	}
}
