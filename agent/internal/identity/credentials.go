package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/job"
)

// credentialsFile is the name of the file, beside agent.yaml.
const credentialsFile = "agent.creds"

// claims is what we read of a user JWT. Its signature is the bus's to check.
type claims struct {
	Subject string `json:"sub"`
	Name    string `json:"name"` // the host's
	Issued  int64  `json:"iat"`  // Unix seconds
	Expires int64  `json:"exp"`  // 0: never
}

var errNoJWT = errors.New("not a JWT")

func readJWT(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, errNoJWT
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, errNoJWT
	}
	var c claims
	if err := json.Unmarshal(data, &c); err != nil {
		return claims{}, errNoJWT
	}
	return c, nil
}

// formatCredentials returns the text of a .creds file.
func formatCredentials(token string, seed []byte) []byte {
	return fmt.Appendf(nil, `-----BEGIN NATS USER JWT-----
%s
------END NATS USER JWT------

************************* IMPORTANT *************************
The seed below is this host's identity: whoever reads it can speak for it.

-----BEGIN USER NKEY SEED-----
%s
------END USER NKEY SEED------
`, token, seed)
}

// Credentials is what a .creds file says of itself.
type Credentials struct {
	Host    string    // whose they are
	Public  string    // of the bus identity ("U…")
	Issued  time.Time // zero: not said
	Expires time.Time // zero: never
	seed    []byte
}

// ReadCredentials reads a .creds file. It is a *job.Failure when it cannot be
// read, is open to others, or holds no credentials.
func ReadCredentials(path, host string) (Credentials, error) {
	if err := CheckCredentials(path, host); err != nil {
		return Credentials{}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Credentials{}, unreadable("credentials", path, host, err)
	}
	damaged := job.Fail(job.InvalidRequest, "%s does not hold credentials for the bus", path).WithHint("%s", howToEnrol(host))
	pair, err := nkeys.ParseDecoratedUserNKey(text)
	if err != nil {
		return Credentials{}, damaged
	}
	var c Credentials
	if c.Public, err = pair.PublicKey(); err != nil {
		return Credentials{}, damaged
	}
	if c.seed, err = pair.Seed(); err != nil {
		return Credentials{}, damaged
	}
	token, err := nkeys.ParseDecoratedJWT(text)
	if err != nil {
		return Credentials{}, damaged
	}
	said, err := readJWT(token)
	if err != nil {
		return Credentials{}, damaged
	}
	c.Host = said.Name
	if said.Issued > 0 {
		c.Issued = time.Unix(said.Issued, 0).UTC()
	}
	if said.Expires > 0 {
		c.Expires = time.Unix(said.Expires, 0).UTC()
	}
	return c, nil
}

// Owner returns the host whose credentials lie in a directory, and where; empty
// when there are none.
func Owner(dir string) (host, path string) {
	path = filepath.Join(dir, credentialsFile)
	present, err := ReadCredentials(path, "")
	if err != nil {
		return "", ""
	}
	return present.Host, path
}

// CheckCredentials returns nil, or a *job.Failure when the credentials file
// cannot be read or is open to others.
func CheckCredentials(path, host string) error {
	file, err := os.Open(path)
	if err != nil {
		return unreadable("credentials", path, host, err)
	}
	defer file.Close() // read only
	info, err := file.Stat()
	if err != nil {
		return unreadable("credentials", path, host, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return job.Fail(job.PermissionDenied, "credentials %s are open to others (mode %04o)", path, mode).
			WithHint("chmod 600 %s", path)
	}
	return nil
}

// Signer reads the coordinator's public signing key.
func Signer(path, host string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", unreadable("the coordinator's signing key", path, host, err)
	}
	signer := strings.TrimSpace(string(data))
	if !nkeys.IsValidPublicKey(signer) {
		return "", job.Fail(job.InvalidRequest, "%s does not hold a public signing key", path).WithHint("%s", howToEnrol(host))
	}
	return signer, nil
}

func unreadable(what, path, host string, err error) *job.Failure {
	failure := job.Fail(job.NotAllowed, "read %s %s: %s", what, path, cause(err))
	if errors.Is(err, os.ErrNotExist) {
		return failure.WithHint("%s", howToEnrol(host))
	}
	return failure.WithHint("run the agent as the user that owns the file, usually root")
}

func howToEnrol(host string) string {
	return fmt.Sprintf("enrol this host: run \"borgfleet host token %s\" on the coordinator, and here the command that it prints", host)
}
