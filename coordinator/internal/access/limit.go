package access

import (
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"golang.org/x/time/rate"
)

// Who fails to sign in may try again this often. The rate of a name is above
// that of one address, so that one address cannot use up a name's.
const (
	addressEvery = 6 * time.Second
	addressBurst = 10
	nameEvery    = 2 * time.Second
	nameBurst    = 30
	remembered   = 2048 // addresses, names, and pairs of them; the newest, up to twice as many
)

// limits bounds how often somebody may try to sign in: from one address, to
// one name, or, where that name has signed in from that address before, with
// that pair alone. So neither a neighbour behind the same address nor all the
// world's attempts at a name lock out who comes from where they always come.
type limits struct {
	mu        sync.Mutex
	addresses recent
	names     recent
	pairs     recent // that have signed in
}

func newLimits() *limits { return &limits{} }

// take uses up one attempt. If there is none left, it returns the time until
// there is.
func (l *limits) take(now time.Time, from, name string) (wait time.Duration) {
	address := addressOf(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if limiter := l.pairs.find(pair(address, name)); limiter != nil {
		return take(limiter, now)
	}
	if wait := take(l.addresses.get(address, addressEvery, addressBurst), now); wait > 0 {
		return wait
	}
	return take(l.names.get(name, nameEvery, nameBurst), now)
}

// forgive gives a name that has signed in from an address a limit of its own.
func (l *limits) forgive(from, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pairs.put(pair(addressOf(from), name), rate.NewLimiter(rate.Every(addressEvery), addressBurst))
}

func take(limiter *rate.Limiter, now time.Time) time.Duration {
	reservation := limiter.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func pair(address, name string) string { return address + " " + name }

// addressOf returns what counts as one address in an actor's From: of IPv6 the
// network, as whoever has one address there has them all.
func addressOf(from string) string {
	address := from[strings.LastIndexByte(from, ' ')+1:]
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // 64 is a valid length
	return network.String()
}

// recent keeps the limiters that were used last, at most twice remembered: when
// the young are that many, they become the old, and the old are forgotten.
type recent struct{ young, old map[string]*rate.Limiter }

// find returns the limiter of a key; nil if there is none.
func (r *recent) find(key string) *rate.Limiter {
	if limiter, ok := r.young[key]; ok {
		return limiter
	}
	limiter, ok := r.old[key]
	if ok {
		r.put(key, limiter)
	}
	return limiter
}

func (r *recent) get(key string, every time.Duration, burst int) *rate.Limiter {
	limiter := r.find(key)
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Every(every), burst)
		r.put(key, limiter)
	}
	return limiter
}

func (r *recent) put(key string, limiter *rate.Limiter) {
	if r.young == nil || len(r.young) >= remembered {
		r.young, r.old = make(map[string]*rate.Limiter), r.young
	}
	r.young[key] = limiter
}

// tooMany is the answer to who must wait; its hint says how long.
func tooMany(message string, seconds int) *job.Failure {
	return job.Fail(job.TooMany, "%s", message).WithHint("try again in %d s", seconds)
}

// seconds rounds a wait up to whole seconds.
func seconds(wait time.Duration) int { return int(math.Ceil(wait.Seconds())) }
