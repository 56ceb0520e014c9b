package secret_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/secret"
)

func seed(t *testing.T) (text, public string) {
	t.Helper()
	pair, public := curve(t)
	raw, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), public
}

func TestRingOpensWhatWasSealedToAnyOfItsKeys(t *testing.T) {
	newest, newestPublic := seed(t)
	older, olderPublic := seed(t)
	_, strangerPublic := seed(t)
	ring, err := secret.ParseRing([]byte(newest + "\r\n\n" + older))
	if err != nil {
		t.Fatal(err)
	}
	if ring.Public() != newestPublic {
		t.Errorf("public key %s; want the newest, %s", ring.Public(), newestPublic)
	}
	purpose := secret.Purpose{Host: "web1", Repository: "main"}
	for name, test := range map[string]struct {
		public string
		want   error
	}{"newest": {newestPublic, nil}, "older": {olderPublic, nil}, "stranger": {strangerPublic, secret.ErrNotOurs}} {
		t.Run(name, func(t *testing.T) {
			sealed, err := secret.Seal(secret.FromString(plaintext), purpose, test.public)
			if err != nil {
				t.Fatal(err)
			}
			value, err := ring.Open(sealed, purpose)
			if !errors.Is(err, test.want) || (err == nil && string(value.Reveal()) != plaintext) {
				t.Errorf("opened with error %v; want %v", err, test.want)
			}
			if _, err := ring.Open(sealed, secret.Purpose{Host: "web2", Repository: "main"}); !errors.Is(err, secret.ErrNotOurs) {
				t.Errorf("opened for another purpose: %v", err)
			}
		})
	}
}

func TestBadRings(t *testing.T) {
	good, _ := seed(t)
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "blank": " \n\n", "cut": good[:len(good)-4], "damaged second": good + "\nSXAB", "a user's seed": string(wrong),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := secret.ParseRing([]byte(text))
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), good[:20]) || strings.Contains(err.Error(), string(wrong[:20])) {
				t.Error("the error repeats a seed")
			}
		})
	}
}
