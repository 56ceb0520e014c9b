// Package process runs programs that outlive whoever started them.
package process

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/secret"
)

// Options are what a Local needs.
type Options struct {
	Root       string   // job directories are made in it, 0700; made if missing
	Supervisor []string // command that runs Supervise(dir); the directory is appended
	Logger     hclog.Logger
}

// Local runs programs on this machine.
type Local struct{ options Options }

// NewLocal returns an executor over job directories in o.Root.
func NewLocal(o Options) *Local { return &Local{options: o} }

var errTodo = errors.New("not yet")

// Start starts a program.
func (l *Local) Start(ctx context.Context, c Command, passphrase secret.Value) (Started, error) {
	return Started{}, errTodo
}

// Follow delivers output.
func (l *Local) Follow(ctx context.Context, id string, from Offsets, emit func(Chunk) error) (Exit, error) {
	return Exit{}, errTodo
}

// Signal signals the program's process group.
func (l *Local) Signal(ctx context.Context, id string, s Signal) error { return errTodo }

// Remove deletes a job directory.
func (l *Local) Remove(ctx context.Context, id string) error { return errTodo }

// List returns the ids that have a directory.
func (l *Local) List(ctx context.Context) ([]string, error) { return nil, errTodo }

// Clean removes directories of runs that ended before olderThan ago and that keep does not want.
func (l *Local) Clean(ctx context.Context, olderThan time.Duration, keep func(id string) bool) error {
	return errTodo
}

// Supervise is the supervisor's main.
func Supervise(dir string) int { return 1 }
