// Package manifest makes hosts, repositories, plans and notifications match a
// text, fleet.yaml, and writes the text that they match. A text is read strictly:
// all that is wrong with it is told at once, with its place.
package manifest
