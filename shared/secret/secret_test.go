package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/secret"
)

const plaintext = "correct horse battery staple"

func TestValueNeverPrintsItself(t *testing.T) {
	value := secret.FromString(plaintext)
	var log bytes.Buffer
	for _, asJSON := range []bool{false, true} {
		logger := hclog.New(&hclog.LoggerOptions{Output: &log, JSONFormat: asJSON})
		logger.Info("opened", "secret", value, "pointer", &value, "struct", struct{ S secret.Value }{value})
	}
	asJSON, err := json.Marshal(map[string]any{"value": value, "pointer": &value, "list": []secret.Value{value}})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(asJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		out += fmt.Sprintf(verb+" "+verb, value, struct{ S secret.Value }{value})
	}
	out += fmt.Sprint(value, &value) + fmt.Errorf("with %w %v", errors.New("x"), value).Error()
	for name, form := range map[string]string{
		"plain": plaintext, "word": "horse", "hex": hex.EncodeToString([]byte(plaintext)),
		"base64": base64.StdEncoding.EncodeToString([]byte(plaintext)), "bytes": "99 111 114 114",
	} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
			t.Errorf("the secret shows in its %s form:\n%s", name, out)
		}
	}
	if string(value.Reveal()) != plaintext {
		t.Error("the secret is lost")
	}
}

func TestValueDoesNotShareMemory(t *testing.T) {
	source := []byte("abc")
	value := secret.New(source)
	source[0] = 'X'
	value.Reveal()[1] = 'X'
	if string(value.Reveal()) != "abc" {
		t.Errorf("changed from outside: %s", value.Reveal())
	}
}

func TestReadFile(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string // "" means an error
	}{
		"plain":            {"abc", 0o600, "abc"},
		"line end":         {"abc\n", 0o600, "abc"},
		"dos line end":     {"abc\r\n", 0o400, "abc"},
		"only one dropped": {"abc\n\n", 0o600, "abc\n"},
		"spaces are kept":  {" a b ", 0o600, " a b "},
		"empty":            {"", 0o600, ""},
		"only a line end":  {"\n", 0o600, ""},
		"open to others":   {"abc", 0o644, ""},
		"too long":         {strings.Repeat("x", secret.MaxBytes+1), 0o600, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pass")
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			got, err := secret.ReadFile(path)
			if (err != nil) != (c.want == "") {
				t.Fatalf("error %v", err)
			}
			if err == nil && string(got.Reveal()) != c.want {
				t.Errorf("%q, want %q", got.Reveal(), c.want)
			}
			if err != nil && strings.Contains(err.Error(), "abc") {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func curve(t testing.TB) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

func TestSealIsForOneHostAndOnePurpose(t *testing.T) {
	own, ownPublic := curve(t)
	other, _ := curve(t)
	purpose := secret.Purpose{Host: "web1", Repository: "main"}
	sealed, err := secret.Seal(secret.FromString(plaintext), purpose, ownPublic)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed.Ciphertext, []byte("horse")) {
		t.Error("plaintext in the box")
	}
	opened, err := secret.Open(sealed, purpose, own)
	if err != nil || string(opened.Reveal()) != plaintext {
		t.Fatalf("the host cannot open it: %v", err)
	}
	flipped := secret.Sealed{Sender: sealed.Sender, Ciphertext: bytes.Clone(sealed.Ciphertext)}
	flipped.Ciphertext[len(flipped.Ciphertext)-1] ^= 1
	for name, try := range map[string]func() error{
		"another host's key": func() error { _, err := secret.Open(sealed, purpose, other); return err },
		"another repository": func() error {
			_, err := secret.Open(sealed, secret.Purpose{Host: "web1", Repository: "x"}, own)
			return err
		},
		"another host's name": func() error {
			_, err := secret.Open(sealed, secret.Purpose{Host: "db1", Repository: "main"}, own)
			return err
		},
		"a flipped bit":        func() error { _, err := secret.Open(flipped, purpose, own); return err },
		"an empty box":         func() error { _, err := secret.Open(secret.Sealed{}, purpose, own); return err },
		"sealed to a non-key":  func() error { _, err := secret.Seal(opened, purpose, "web1"); return err },
		"sealed to a user key": func() error { _, err := secret.Seal(opened, purpose, "UABC"); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func BenchmarkSealAndOpen(b *testing.B) {
	own, public := curve(b)
	value, purpose := secret.FromString(plaintext), secret.Purpose{Host: "web1", Repository: "main"}
	for b.Loop() {
		sealed, err := secret.Seal(value, purpose, public)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := secret.Open(sealed, purpose, own); err != nil {
			b.Fatal(err)
		}
	}
}
