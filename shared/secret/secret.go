// Package secret is the single owner of plaintext secrets: a value that does
// not print itself, its loading from files, and its sealing to the one host
// that may read it.
package secret

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxBytes bounds a secret, so that it always fits a pipe's buffer.
const MaxBytes = 4096

const redacted = "[redacted]"

// Value holds a secret. It is redacted wherever it is printed, logged or
// marshalled; only [Value.Reveal] gives the plaintext. The zero value is "no
// secret". Values are safe to copy and for concurrent use.
type Value struct{ plaintext []byte }

// New returns a Value of the given plaintext, which it copies.
func New(plaintext []byte) Value { return Value{plaintext: bytes.Clone(plaintext)} }

// FromString returns a Value of the given plaintext.
func FromString(plaintext string) Value { return New([]byte(plaintext)) }

// Reveal returns the plaintext. Call it only where the secret is handed over:
// to a pipe, or to a sealing function.
func (v Value) Reveal() []byte { return bytes.Clone(v.plaintext) }

// Empty reports whether there is no secret.
func (v Value) Empty() bool { return len(v.plaintext) == 0 }

// Equal compares in constant time.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare(v.plaintext, other.plaintext) == 1
}

// String implements fmt.Stringer without the secret.
func (v Value) String() string { return redacted }

// GoString implements fmt.GoStringer without the secret.
func (v Value) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb reaches the bytes.
func (v Value) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// MarshalText implements encoding.TextMarshaler without the secret; JSON and
// hclog use it.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText takes a secret in, for requests and configuration files.
func (v *Value) UnmarshalText(text []byte) error {
	if len(text) > MaxBytes {
		return fmt.Errorf("secret of %d bytes: at most %d are allowed", len(text), MaxBytes)
	}
	v.plaintext = bytes.Clone(text)
	return nil
}

// ReadFile loads a secret from a file. One line end at the end is dropped. A
// file that others can read is an error, as is an empty one.
func ReadFile(path string) (Value, error) {
	file, err := os.Open(path)
	if err != nil {
		return Value{}, fmt.Errorf("open secret file: %w", err)
	}
	defer file.Close() // read only: nothing to lose
	info, err := file.Stat()
	if err != nil {
		return Value{}, fmt.Errorf("stat secret file %s: %w", path, err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return Value{}, fmt.Errorf("secret file %s is open to others (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	value, err := Read(file)
	if err != nil {
		return Value{}, fmt.Errorf("read secret file %s: %w", path, err)
	}
	return value, nil
}

// Read loads a secret from a stream until its end. One line end at the end is
// dropped.
func Read(from io.Reader) (Value, error) {
	data, err := io.ReadAll(io.LimitReader(from, MaxBytes+1))
	if err != nil {
		return Value{}, err
	}
	if len(data) > MaxBytes {
		return Value{}, fmt.Errorf("longer than %d bytes", MaxBytes)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return Value{}, errors.New("empty")
	}
	return Value{plaintext: data}, nil
}
