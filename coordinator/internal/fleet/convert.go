package fleet

// ConvertStep is one thing that was done to make a host without an agent one
// with an agent.
type ConvertStep struct {
	Name   string `json:"name"`   // "check", "copy", "settings", "memory", "enrol", "start", "hello", "switch", "undo"
	Detail string `json:"detail"` // in a sentence
}
