package dispatch

import (
	"math/rand/v2"
	"time"
)

// Backoff is the pause before another attempt: exponential, with jitter, so
// that a fleet that failed together does not come back together.
type Backoff struct {
	First  time.Duration                           // before the second attempt; default 10 s
	Max    time.Duration                           // default 5 min
	Jitter func(below time.Duration) time.Duration // a random part of below; default uniform
}

func (b Backoff) withDefaults() Backoff {
	if b.First <= 0 {
		b.First = 10 * time.Second
	}
	if b.Max <= 0 {
		b.Max = 5 * time.Minute
	}
	if b.Jitter == nil {
		b.Jitter = func(below time.Duration) time.Duration { return rand.N(below + 1) }
	}
	return b
}

// Delay returns the pause after the given number of attempts have ended:
// between four fifths and the whole of First·2^(attempts-1), at most Max.
func (b Backoff) Delay(attempts int) time.Duration {
	delay := b.First
	for i := 1; i < attempts && delay < b.Max; i++ {
		delay *= 2
	}
	delay = min(delay, b.Max)
	return delay - b.Jitter(delay/5)
}
