package bus_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestAnEnrolmentTokenSurvivesItsWayAndShowsDamage(t *testing.T) {
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	token := bus.EnrolmentToken{
		URL: "tls://backup.example.net:4222", Fingerprint: sha256.Sum256([]byte("certificate")), Key: key,
		Secret: secret.FromString(strings.Repeat("s", bus.TokenSecretSize)),
	}
	word, err := token.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(word) > 180 || strings.ContainsAny(word, " '\"\\$+/=") {
		t.Errorf("token is no handy word: %s", word)
	}
	again, err := bus.ParseEnrolmentToken(" " + word + "\n")
	if err != nil || again.URL != token.URL || again.Fingerprint != token.Fingerprint || again.Key != key || !again.Secret.Equal(token.Secret) {
		t.Errorf("read back: %+v (%v)", again, err)
	}
	for cut := range word {
		if _, err := bus.ParseEnrolmentToken(word[:cut]); err == nil {
			t.Errorf("a token cut to %d characters was taken", cut)
		}
		other := []byte(word)
		other[cut] = map[bool]byte{true: 'A', false: 'B'}[other[cut] == 'B']
		if _, err := bus.ParseEnrolmentToken(string(other)); err == nil && string(other) != word {
			t.Errorf("a token with another character at %d was taken", cut)
		}
	}
}

func TestASealedMessageHasOneReader(t *testing.T) {
	own, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	public, err := own.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := bus.SealMessage(bus.EnrolAnswer{Host: "web1"}, public)
	if err != nil {
		t.Fatal(err)
	}
	var answer bus.EnrolAnswer
	if err := bus.OpenMessage(sealed, own, &answer); err != nil || answer.Host != "web1" {
		t.Errorf("answer %+v (%v)", answer, err)
	}
	other, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.OpenMessage(sealed, other, &answer); err == nil {
		t.Error("another key opened it")
	}
}

func TestARequestCarriesTheTokensSecret(t *testing.T) {
	token := bus.EnrolmentToken{Secret: secret.FromString("\x00\xff secret of 20 byte")}
	if hash, ok := (bus.EnrolRequest{Secret: token.SecretText()}).SecretHash(); !ok || hash != fmt.Sprintf("%x", sha256.Sum256(token.Secret.Reveal())) {
		t.Errorf("hash %q, %v", hash, ok)
	}
	for _, text := range []string{"", "short", token.SecretText() + "A", strings.Repeat("=", 27)} {
		if _, ok := (bus.EnrolRequest{Secret: text}).SecretHash(); ok {
			t.Errorf("%q was taken for a secret", text)
		}
	}
}
