package access

// CheapCost makes passwords cheap for tests.
var CheapCost = Cost{MemoryKiB: 8, Passes: 1, Threads: 1}

// Remembered returns how many limiters are kept.
func (s *Service) Remembered() int {
	count := 0
	for _, r := range []recent{s.limits.addresses, s.limits.names, s.limits.pairs} {
		count += len(r.young) + len(r.old)
	}
	return count
}

// MaxRemembered bounds it.
const MaxRemembered = 3 * 2 * remembered

// Occupy takes all the slots for computations, so that others wait.
func (s *Service) Occupy() (release func()) {
	for range atOnce {
		s.hasher.inside <- struct{}{}
		s.hasher.slots <- struct{}{}
	}
	return func() {
		for range atOnce {
			<-s.hasher.slots
			<-s.hasher.inside
		}
	}
}

// Waiting returns how many computations run or wait, and how many may.
func (s *Service) Waiting() (now, most int) { return len(s.hasher.inside), cap(s.hasher.inside) }

// AddressOf is what counts as one address.
var AddressOf = addressOf
