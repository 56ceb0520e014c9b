package journal

// LimitOutcomes lets a test fill the memory of outcomes.
func (j *Journal) LimitOutcomes(n uint64) { j.limit = n }
