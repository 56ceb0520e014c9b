package state_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestRefusals(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	old := newCoordinator(t)
	plain := old.backup(t, fleet.StateBackup{})
	sealed := old.backup(t, fleet.StateBackup{Recipient: identity.Recipient().String()})
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)/2] ^= 1
	for name, test := range map[string]struct {
		data       []byte
		identities []age.Identity
		code       job.Code
		says       string
	}{
		"empty":             {nil, nil, job.InvalidRequest, "not a copy"},
		"something else":    {[]byte("#!/bin/sh\necho hello, world\n"), nil, job.InvalidRequest, "not a copy"},
		"no identity":       {sealed, nil, job.KeyMissing, "is encrypted"},
		"another identity":  {sealed, []age.Identity{other}, job.KeyMissing, "does not open"},
		"cut short":         {plain[:len(plain)-5], nil, job.IntegrityError, "damaged"},
		"half":              {plain[:len(plain)/2], nil, job.IntegrityError, "damaged"},
		"sealed, cut short": {sealed[:len(sealed)-5], []age.Identity{identity}, job.IntegrityError, "damaged"},
		"sealed, changed":   {flipped, []age.Identity{identity}, job.IntegrityError, "damaged"},
		"a file changed":    {rewrite(t, plain, func(name string, data []byte) []byte { return replace(name, data, "secrets.key", "another\n") }), nil, job.IntegrityError, "secrets.key is not what it was"},
		"a file missing":    {rewrite(t, plain, func(name string, data []byte) []byte { return drop(name, data, "tls/server.pem") }), nil, job.IntegrityError, "files, and its manifest"},
		"no manifest":       {rewrite(t, plain, func(name string, data []byte) []byte { return drop(name, data, "manifest.json") }), nil, job.IntegrityError, "without a manifest"},
		"newer format":      {rewrite(t, plain, manifestWith("format", 2)), nil, job.Conflict, "made by a newer borgfleet"},
		"newer schema":      {rewrite(t, plain, manifestWith("schema", 99)), nil, job.Conflict, "made by a newer borgfleet"},
		"a way out":         {rewrite(t, plain, func(name string, data []byte) []byte { return data }, "logs/../x.jsonl"), nil, job.IntegrityError, "does not belong there"},
		"a stranger":        {rewrite(t, plain, func(name string, data []byte) []byte { return data }, "local.token"), nil, job.IntegrityError, "does not belong there"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCoordinator(t)
			c.close(t)
			before := files(t, c.dir)
			r, err := state.Open(options(c.dir, test.data, test.identities...))
			if err == nil {
				t.Fatal("it was opened", r.Close())
			}
			wantFailure(t, err, test.code, test.says)
			if diff := cmp.Diff(before, files(t, c.dir)); diff != "" {
				t.Errorf("something changed\n%s", diff)
			}
			checkNothingLeft(t, c.dir)
			missing := filepath.Join(t.TempDir(), "missing")
			if _, err := state.Open(options(missing, test.data, test.identities...)); err == nil {
				t.Error("opened in a directory that is not there")
			}
			if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it left a directory: %v", err)
			}
		})
	}
}

func replace(name string, data []byte, which, with string) []byte {
	if name == which {
		return []byte(with)
	}
	return data
}

func drop(name string, data []byte, which string) []byte {
	if name == which {
		return nil
	}
	return data
}

func manifestWith(field string, value any) func(name string, data []byte) []byte {
	return func(name string, data []byte) []byte {
		if name != "manifest.json" {
			return data
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			panic(err)
		}
		m[field] = value
		changed, err := json.Marshal(m)
		if err != nil {
			panic(err)
		}
		return changed
	}
}
