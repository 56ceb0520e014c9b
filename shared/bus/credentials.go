package bus

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// userCredentials reads a .creds file at every connect. It is stricter than the
// stock option: a server takes a client whose JWT it cannot read for one that
// has none and wants to enrol, so a damaged file must not get that far.
func userCredentials(path string) nats.Option {
	token := func() (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read credentials: %w", err)
		}
		defer clear(text)
		token, err := nkeys.ParseDecoratedJWT(text)
		if err == nil {
			err = checkToken(token)
		}
		if err != nil {
			return "", fmt.Errorf("credentials %s are damaged: %w", path, err)
		}
		return token, nil
	}
	sign := func(nonce []byte) ([]byte, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		defer clear(text)
		pair, err := nkeys.ParseDecoratedUserNKey(text)
		if err != nil {
			return nil, fmt.Errorf("credentials %s are damaged: %w", path, err)
		}
		defer pair.Wipe()
		return pair.Sign(nonce)
	}
	return nats.UserJWT(token, sign)
}

// checkToken returns what is wrong with a JWT as such; whether its issuer is
// one to be believed is the server's business.
func checkToken(token string) error {
	signed, signature, ok := cutLast(token, ".")
	_, body, more := strings.Cut(signed, ".")
	if !ok || !more {
		return fmt.Errorf("it has no JWT of three parts")
	}
	data, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return fmt.Errorf("decode JWT: %w", err)
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(data, &claims); err != nil {
		return fmt.Errorf("decode JWT: %w", err)
	}
	issuer, err := nkeys.FromPublicKey(claims.Issuer)
	if err != nil {
		return fmt.Errorf("issuer of JWT: %w", err)
	}
	sum, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		return fmt.Errorf("decode JWT: %w", err)
	}
	if err := issuer.Verify([]byte(signed), sum); err != nil {
		return fmt.Errorf("signature of JWT: %w", err)
	}
	return nil
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}
