package bus

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Enrol is where a host that has no identity yet asks for one (request and
// reply). What is asked and answered is sealed.
const Enrol = Prefix + ".enroll"

// AllRenewals is where hosts that have an identity ask for another one.
const AllRenewals = Prefix + ".agent.*.renew"

// RenewSubject is where a host asks for new credentials (request and reply).
func RenewSubject(host string) string { return Prefix + ".agent." + host + ".renew" }

// enrolInbox begins the reply subjects of those who enrol. No host can have it.
const enrolInbox = "_ENROLL"

// EnrolInbox is where one who enrols receives the answer. The id must be one
// that nobody can guess.
func EnrolInbox(id string) string { return enrolInbox + "." + id }

// FromEnroller reports whether a reply subject lies where only those who enrol
// receive: nobody else is answered there.
func FromEnroller(reply string) bool { return within(enrolInbox, reply) }

// EnrolMessage carries an [EnrolRequest], sealed to the key in the token.
type EnrolMessage struct {
	Sealed secret.Sealed `json:"sealed"`
}

// EnrolRequest is what a new host says of itself.
type EnrolRequest struct {
	Secret       string    `json:"secret"`     // of the token: unpadded URL-safe base64, see EnrolmentToken.SecretText
	Host         string    `json:"host"`       // as which it is configured already; empty: as the token says
	PublicKey    string    `json:"public_key"` // its bus identity ("U…"), made on the host
	SealKey      string    `json:"seal_key"`   // its public curve key ("X…"); the answer is sealed to it
	SSHKey       string    `json:"ssh_key"`    // its public key for the depot, in authorized_keys form
	AgentVersion string    `json:"agent_version"`
	OS           string    `json:"os"`
	At           time.Time `json:"at"` // the host's clock
}

// EnrolReply answers an EnrolMessage: with a sealed [EnrolAnswer], or with why
// there is nobody to seal one to. All who come without credentials can read it.
type EnrolReply struct {
	Sealed  *secret.Sealed `json:"sealed,omitempty"`
	Failure *job.Failure   `json:"failure,omitempty"`
}

// EnrolAnswer is all that an agent needs to connect, or why it is refused.
type EnrolAnswer struct {
	Failure *job.Failure `json:"failure,omitempty"`

	Host   string    `json:"host"`
	JWT    string    `json:"jwt"`    // of its bus identity
	Signer string    `json:"signer"` // public key that orders are signed with
	URLs   []string  `json:"urls"`   // of the bus
	CA     string    `json:"ca"`     // PEM of the authority of the bus's certificate; empty: the system's
	At     time.Time `json:"at"`     // the coordinator's clock
}

// RenewRequest asks for credentials for a bus identity: a new one, or the same
// for longer. A new identity counts, and the old one ends, once a request with
// Confirm has come.
type RenewRequest struct {
	PublicKey string `json:"public_key"`
	SealKey   string `json:"seal_key,omitempty"` // empty: unchanged
	SSHKey    string `json:"ssh_key,omitempty"`  // empty: unchanged
	Confirm   bool   `json:"confirm,omitempty"`
}

// RenewReply answers a RenewRequest.
type RenewReply struct {
	JWT     string       `json:"jwt,omitempty"` // empty after Confirm
	Failure *job.Failure `json:"failure,omitempty"`
}

// EnrolmentToken is what a person carries from the coordinator to a new host.
type EnrolmentToken struct {
	URL         string            // of the bus
	Fingerprint [sha256.Size]byte // SHA-256 of the authority's certificate (DER); zero: the system's authorities
	Key         string            // the coordinator's public curve key ("X…"), which the request is sealed to
	Secret      secret.Value      // spent once
}

const (
	tokenPrefix     = "bfe1_"
	tokenSecretSize = 20
	curveKeySize    = 32
	tokenFixedSize  = sha256.Size + curveKeySize + tokenSecretSize
)

// TokenSecretSize is the length of a token's secret, in bytes.
const TokenSecretSize = tokenSecretSize

// Encode returns the token as one word. Faults are those of its fields.
func (t EnrolmentToken) Encode() (string, error) {
	key, err := nkeys.Decode(nkeys.PrefixByteCurve, []byte(t.Key))
	if err != nil {
		return "", fmt.Errorf("the coordinator's curve key: %w", err)
	}
	plain := t.Secret.Reveal()
	if len(plain) != tokenSecretSize {
		return "", fmt.Errorf("a token's secret has %d bytes, not %d", tokenSecretSize, len(plain))
	}
	data := slices.Concat(t.Fingerprint[:], key, plain, []byte(t.URL))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(data, checksum(data)...)), nil
}

func checksum(data []byte) []byte {
	sum := crc32.ChecksumIEEE(data)
	return []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// SecretText is the secret as an [EnrolRequest] carries it.
func (t EnrolmentToken) SecretText() string {
	return base64.RawURLEncoding.EncodeToString(t.Secret.Reveal())
}

// SecretHash returns the hex SHA-256 of the secret, under which a token is
// stored.
func (t EnrolmentToken) SecretHash() string { return hexHash(t.Secret.Reveal()) }

// SecretHash returns the same of the secret in an [EnrolRequest]; false when it
// is none.
func (r EnrolRequest) SecretHash() (string, bool) {
	plain, err := base64.RawURLEncoding.DecodeString(r.Secret)
	if err != nil || len(plain) != tokenSecretSize {
		return "", false
	}
	return hexHash(plain), true
}

func hexHash(plain []byte) string { return fmt.Sprintf("%x", sha256.Sum256(plain)) }

// ParseEnrolmentToken reads what Encode made. A word that was cut or mistyped
// is a *job.Failure that does not repeat it.
func ParseEnrolmentToken(text string) (EnrolmentToken, error) {
	damaged := job.Invalid("token", "is not a whole enrolment token").
		WithHint("copy all of it, from %s to its end, as `borgfleet host token` printed it", tokenPrefix)
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil || len(data) <= tokenFixedSize+4 {
		return EnrolmentToken{}, damaged
	}
	data, sum := data[:len(data)-4], data[len(data)-4:]
	if !slices.Equal(sum, checksum(data)) {
		return EnrolmentToken{}, damaged
	}
	var t EnrolmentToken
	copy(t.Fingerprint[:], data)
	key, err := nkeys.Encode(nkeys.PrefixByteCurve, data[sha256.Size:sha256.Size+curveKeySize])
	if err != nil {
		return EnrolmentToken{}, damaged
	}
	t.Key = string(key)
	t.Secret = secret.New(data[sha256.Size+curveKeySize : tokenFixedSize])
	t.URL = string(data[tokenFixedSize:])
	if u, err := url.Parse(t.URL); err != nil || u.Host == "" {
		return EnrolmentToken{}, damaged
	}
	return t, nil
}

// SealMessage encodes a message as JSON and seals it to a public curve key,
// with a sender's key that lives for this message only.
func SealMessage(message any, recipient string) (secret.Sealed, error) {
	data, err := json.Marshal(message)
	if err != nil {
		return secret.Sealed{}, fmt.Errorf("encode message: %w", err)
	}
	sender, err := nkeys.CreateCurveKeys()
	if err != nil {
		return secret.Sealed{}, fmt.Errorf("make key for one message: %w", err)
	}
	defer sender.Wipe()
	public, err := sender.PublicKey()
	if err != nil {
		return secret.Sealed{}, fmt.Errorf("make key for one message: %w", err)
	}
	ciphertext, err := sender.Seal(data, recipient)
	if err != nil {
		return secret.Sealed{}, fmt.Errorf("seal message: %w", err)
	}
	return secret.Sealed{Sender: public, Ciphertext: ciphertext}, nil
}

// OpenMessage opens what SealMessage made, with one's own curve key.
func OpenMessage(sealed secret.Sealed, own nkeys.KeyPair, message any) error {
	data, err := own.Open(sealed.Ciphertext, sealed.Sender)
	if err != nil {
		return fmt.Errorf("open sealed message: %w", err)
	}
	if err := json.Unmarshal(data, message); err != nil {
		return fmt.Errorf("decode sealed message: %w", err)
	}
	return nil
}
