package notify

// Round looks once at what is to be told, and puts it down.
func (s *Service) Round() error { return s.round() }
