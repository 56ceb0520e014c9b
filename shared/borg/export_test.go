package borg

// What tests compare: the fast ways, and the thorough ones behind them.
var (
	Quick           = quick
	Thorough        = decode
	Plain           = plain
	CleanThoroughly = cleanThoroughly
)
