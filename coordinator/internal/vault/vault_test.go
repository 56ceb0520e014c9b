package vault_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func keyFile(t testing.TB) string { return filepath.Join(t.TempDir(), "secrets.key") }

func open(t testing.TB, path string) *vault.Vault {
	t.Helper()
	v, err := vault.Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func encrypt(t testing.TB, v *vault.Vault, text string) []byte {
	t.Helper()
	data, err := v.Encrypt(secret.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTripSurvivesReopening(t *testing.T) {
	path := keyFile(t)
	first := open(t, path)
	for name, text := range map[string]string{
		"plain": "correct horse battery staple", "unicode": "пароль 🔑 with spaces ",
		"longest": strings.Repeat("x", secret.MaxBytes), "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			data := encrypt(t, first, text)
			if text != "" && strings.Contains(string(data), text) {
				t.Error("the ciphertext holds the plaintext")
			}
			again, err := vault.Open(path, false)
			if err != nil {
				t.Fatal(err)
			}
			got, err := again.Decrypt(data)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Reveal()) != text {
				t.Error("another plaintext came back")
			}
		})
	}
}

func TestKeyFileIsPrivateAndAlone(t *testing.T) {
	path := keyFile(t)
	open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOpenIsNeverTheSecondToMakeTheKey(t *testing.T) {
	path := keyFile(t)
	open(t, path)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open(t, path)
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("the key file was replaced")
	}
}

func TestOpenRefuses(t *testing.T) {
	good := keyFile(t)
	open(t, good)
	key, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		content string
		mode    fs.FileMode
		code    job.Code
		says    string
	}{
		"open to others": {string(key), 0o640, job.NotAllowed, "chmod 600"},
		"empty":          {"", 0o600, job.NotAllowed, "empty"},
		"comments only":  {"# nothing\n", 0o600, job.KeyMissing, "no key"},
		"garbage":        {"hunter2\n", 0o600, job.KeyMissing, "not a key"},
		"two keys":       {string(key) + string(key), 0o600, job.KeyMissing, "more than one"},
		"cut off":        {string(key[:len(key)-10]), 0o600, job.KeyMissing, "not a key"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := keyFile(t)
			if err := os.WriteFile(path, []byte(test.content), test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := vault.Open(path, true)
			wantFailure(t, err, test.code, test.says)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes the file: %v", err)
			}
		})
	}
	t.Run("missing while secrets are stored", func(t *testing.T) {
		path := keyFile(t)
		_, err := vault.Open(path, false)
		wantFailure(t, err, job.KeyMissing, path)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a key file was made: %v", err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		_, err := vault.Open(filepath.Join(t.TempDir(), "none", "secrets.key"), true)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open = %v", err)
		}
	})
}

func wantFailure(t *testing.T, err error, code job.Code, says string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok {
		t.Fatalf("error %v is not a failure", err)
	}
	if failure.Code != code || !strings.Contains(failure.Error(), says) || failure.Hint == "" {
		t.Errorf("failure %q (%s), want %s and %q and a hint", failure, failure.Code, code, says)
	}
}

func TestDecryptRefuses(t *testing.T) {
	v := open(t, keyFile(t))
	data := encrypt(t, v, "secret")
	flipped := append([]byte{}, data...)
	flipped[len(flipped)-1] ^= 1
	tests := map[string]struct {
		data []byte
		code job.Code
	}{
		"another vault's": {encrypt(t, open(t, keyFile(t)), "secret"), job.KeyMissing},
		"flipped bit":     {flipped, job.Internal},
		"cut off":         {data[:len(data)-3], job.Internal},
		"garbage":         {[]byte("hello"), job.Internal},
		"nothing":         {nil, job.Internal},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := v.Decrypt(test.data)
			wantFailure(t, err, test.code, "stored secret")
		})
	}
}

// credential gives the key of a file as systemd does, with a mode.
func credential(t *testing.T, content string, mode fs.FileMode) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	path := filepath.Join(dir, vault.Credential)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFromASystemdCredential(t *testing.T) {
	path := keyFile(t)
	data := encrypt(t, open(t, path), "correct horse")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o400, 0o440} {
		credential(t, string(key), mode)
		elsewhere := keyFile(t)
		v, err := vault.Open(elsewhere, true)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Decrypt(data); err != nil || string(got.Reveal()) != "correct horse" || !v.FromCredential() {
			t.Errorf("mode %v: %v", mode, err)
		}
		if _, err := os.Stat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a key file was made beside the credential: %v", err)
		}
	}
}

func TestCredentialThatCannotBeUsed(t *testing.T) {
	path := keyFile(t)
	open(t, path) // must not stand in for a credential that is there
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		content string
		mode    fs.FileMode
		code    job.Code
		says    string
	}{
		"open to others": {string(key), 0o444, job.NotAllowed, "open to others"},
		"empty":          {"", 0o400, job.NotAllowed, "empty"},
		"garbage":        {"hunter2", 0o400, job.KeyMissing, "does not hold an age secret key"},
	} {
		t.Run(name, func(t *testing.T) {
			credential(t, test.content, test.mode)
			_, err := vault.Open(path, true)
			wantFailure(t, err, test.code, test.says)
		})
	}
}

func TestOtherCredentialsAreNotTheKey(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	path := keyFile(t)
	open(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("no key file was made: %v", err)
	}
}

func BenchmarkEncryptDecrypt(b *testing.B) {
	v := open(b, keyFile(b))
	value := secret.FromString("correct horse battery staple")
	for b.Loop() {
		data, err := v.Encrypt(value)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Decrypt(data); err != nil {
			b.Fatal(err)
		}
	}
}
