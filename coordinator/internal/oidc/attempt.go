package oidc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"
)

// Bounds of a sign-in that is under way.
const (
	attemptLife = 10 * time.Minute
	maxNext     = 1024 // bytes; a browser keeps cookies of up to 4 KiB
)

// The cookie's names; see package access for the prefix.
const (
	plainCookie  = "borgfleet_oidc"
	secureCookie = "__Host-borgfleet_oidc"
)

// attempt is a sign-in that is under way. It is kept in the browser, sealed
// with a key that ends with this process: nobody can fill our memory.
type attempt struct {
	State     string    `json:"state"`    // binds the answer to this browser
	Nonce     string    `json:"nonce"`    // binds the ID token to this attempt
	Verifier  string    `json:"verifier"` // of PKCE: binds the code to it
	Next      string    `json:"next"`     // path that was asked for
	ExpiresAt time.Time `json:"expires_at"`
}

func newAttempt(next string, now time.Time) attempt {
	return attempt{
		State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: next, ExpiresAt: now.Add(attemptLife),
	}
}

// is reports whether an answer belongs to this attempt.
func (a attempt) is(state string) bool { return same(a.State, state) }

// same compares in constant time.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func newSeal() (cipher.AEAD, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// keep gives an attempt to the browser, in place of one that it has.
func (h *Handler) keep(w http.ResponseWriter, r *http.Request, a attempt) error {
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the state of a sign-in: %w", err)
	}
	setCookie(w, r, base64.RawURLEncoding.EncodeToString(h.seal.Seal(nil, nil, text, nil)), attemptLife)
	return nil
}

// kept returns the attempt that the browser has, if it is not over.
func (h *Handler) kept(r *http.Request) (a attempt, ok bool) {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return attempt{}, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return attempt{}, false
	}
	text, err := h.seal.Open(nil, nil, sealed, nil)
	if err != nil || json.Unmarshal(text, &a) != nil || !h.Now().Before(a.ExpiresAt) {
		return attempt{}, false
	}
	return a, true
}

// forget takes the attempt away from the browser.
func (h *Handler) forget(w http.ResponseWriter, r *http.Request) { setCookie(w, r, "", -time.Second) }

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return secureCookie
	}
	return plainCookie
}

// setCookie sets the cookie; a negative life removes it. Lax, since the
// provider's page is what leads back here.
func setCookie(w http.ResponseWriter, r *http.Request, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: r.TLS != nil, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
