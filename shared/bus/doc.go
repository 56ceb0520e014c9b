// Package bus is the wire: subjects, messages, the signed envelope of an
// order, permissions, and how both sides connect. Nothing outside this package
// spells a subject.
package bus
