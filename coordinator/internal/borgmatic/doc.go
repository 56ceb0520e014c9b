// Package borgmatic reads configurations of borgmatic, of its old layout in
// sections and of its flat one, and says what the same is here: plans,
// repositories, hooks. It runs nothing, and keeps nothing.
package borgmatic
