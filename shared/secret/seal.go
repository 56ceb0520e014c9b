package secret

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"
)

// Sealed is a secret that only one host can open: an NKeys xkey box (X25519,
// XSalsa20-Poly1305) made with a key that lives for one sealing.
type Sealed struct {
	Sender     string `json:"sender"`     // public curve key of the one-time sender
	Ciphertext []byte `json:"ciphertext"` // base64 in JSON
}

// Purpose is bound inside the box, so that a sealed secret cannot be used for
// another host or another repository.
type Purpose struct {
	Host       string `json:"host"`
	Repository string `json:"repository"`
}

type sealedContent struct {
	Purpose
	Secret []byte `json:"secret"`
}

// ErrNotOurs is returned when a sealed secret cannot be opened with this key,
// was tampered with, or was made for another purpose.
var ErrNotOurs = errors.New("sealed secret is not for this host and repository")

// Seal encrypts value to recipient, a host's public curve key ("X…").
func Seal(value Value, purpose Purpose, recipient string) (Sealed, error) {
	if !nkeys.IsValidPublicCurveKey(recipient) {
		return Sealed{}, fmt.Errorf("seal secret: %q is not a public curve key", recipient)
	}
	sender, err := nkeys.CreateCurveKeys()
	if err != nil {
		return Sealed{}, fmt.Errorf("make one-time key: %w", err)
	}
	defer sender.Wipe()
	public, err := sender.PublicKey()
	if err != nil {
		return Sealed{}, fmt.Errorf("one-time public key: %w", err)
	}
	content, err := json.Marshal(sealedContent{Purpose: purpose, Secret: value.plaintext})
	if err != nil {
		return Sealed{}, fmt.Errorf("encode secret: %w", err)
	}
	box, err := sender.Seal(content, recipient)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal secret: %w", err)
	}
	return Sealed{Sender: public, Ciphertext: box}, nil
}

// Open decrypts with the host's own curve key pair and checks the purpose. The
// error is [ErrNotOurs] whatever the reason, so that it tells an attacker nothing.
func Open(sealed Sealed, purpose Purpose, own nkeys.KeyPair) (Value, error) {
	plain, err := own.Open(sealed.Ciphertext, sealed.Sender)
	if err != nil {
		return Value{}, ErrNotOurs
	}
	var content sealedContent
	if err := json.Unmarshal(plain, &content); err != nil || content.Purpose != purpose {
		return Value{}, ErrNotOurs
	}
	return Value{plaintext: content.Secret}, nil
}
