package alert

import "context"

// Evaluate looks once at what holds.
func (s *Service) Evaluate(ctx context.Context) error { return s.evaluate(ctx, true) }
