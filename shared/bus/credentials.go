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
	claims, err := readClaims(token)
	if err != nil {
		return err
	}
	issuer, err := nkeys.FromPublicKey(claims.Issuer)
	if err != nil {
		return fmt.Errorf("issuer of JWT: %w", err)
	}
	end := strings.LastIndex(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(token[end+1:])
	if err != nil {
		return fmt.Errorf("decode JWT: %w", err)
	}
	if err := issuer.Verify([]byte(token[:end]), signature); err != nil {
		return fmt.Errorf("signature of JWT: %w", err)
	}
	return nil
}

// TokenSubject returns the public key that a JWT was made for. The signature is
// not checked: this is for a JWT that a server has accepted.
func TokenSubject(token string) (string, error) {
	claims, err := readClaims(token)
	return claims.Subject, err
}

// claims is the part of a JWT that matters here.
type claims struct {
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
}

func readClaims(token string) (claims, error) {
	var read claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return read, fmt.Errorf("a JWT has three parts, not %d", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(data, &read)
	}
	if err != nil {
		return read, fmt.Errorf("decode JWT: %w", err)
	}
	return read, nil
}
