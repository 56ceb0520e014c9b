package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// prepareBus makes the copied bus directory what shall be there: revocations
// are joined with the present ones, and keys that are the present ones stay
// where they are, and the stream with them.
func (r *Restoration) prepareBus() error {
	if err := r.joinRevocations(); err != nil {
		return fmt.Errorf("join revocations: %w", err)
	}
	var err error
	if r.sameBus, err = r.sameKeys(); err != nil || !r.sameBus {
		return err
	}
	copied, err := glob(r.staging, keyPatterns()...)
	for _, name := range copied {
		err = errors.Join(err, os.Remove(filepath.Join(r.staging, name)))
	}
	if err == nil {
		err = os.RemoveAll(filepath.Join(r.staging, busKeysDir))
	}
	if err != nil {
		return fmt.Errorf("leave out keys that are there: %w", err)
	}
	return nil
}

// sameKeys reports whether the bus is the one of the copy. A newer version may
// have added keys since.
func (r *Restoration) sameKeys() (bool, error) {
	copied, err := glob(r.staging, keyPatterns()...)
	if err != nil {
		return false, err
	}
	for _, name := range copied {
		if filepath.Ext(name) != ".nk" {
			continue
		}
		want, err := os.ReadFile(filepath.Join(r.staging, name))
		if err != nil {
			return false, fmt.Errorf("read copied key: %w", err)
		}
		present, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("read present key: %w", err)
		}
		if !bytes.Equal(bytes.TrimSpace(want), bytes.TrimSpace(present)) {
			return false, nil
		}
	}
	return len(copied) > 0, nil
}

// joinRevocations adds to the copied ones those that lie there: what was ended
// stays so, whichever of the two is younger.
func (r *Restoration) joinRevocations() error {
	names, err := glob(r.dir, revocationPattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		ended, err := readRevocations(filepath.Join(r.staging, name))
		if err != nil {
			return err
		}
		present, err := readRevocations(filepath.Join(r.dir, name))
		if err != nil {
			return err
		}
		for key, at := range present {
			if at.After(ended[key]) {
				ended[key] = at
			}
		}
		if err := writeRevocations(filepath.Join(r.staging, name), ended); err != nil {
			return err
		}
	}
	return nil
}

// readRevocations returns when which public keys were revoked.
func readRevocations(path string) (map[string]time.Time, error) {
	ended := map[string]time.Time{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ended, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &ended)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return ended, nil
}

func writeRevocations(path string, ended map[string]time.Time) error {
	data, err := json.Marshal(ended)
	if err != nil {
		return fmt.Errorf("encode revocations: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return err
	}
	return os.WriteFile(path, data, fileMode)
}

// glob returns the names below dir that match one of the patterns.
func glob(dir string, patterns ...string) (names []string, err error) {
	for _, pattern := range patterns {
		found, err := fs.Glob(os.DirFS(dir), pattern)
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", pattern, err)
		}
		names = append(names, found...)
	}
	return names, nil
}
