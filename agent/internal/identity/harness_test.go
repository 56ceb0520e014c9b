package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// authority signs the certificate of a test's bus.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{key: newKey(t)}
	a.certificate = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-240 * time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
	}, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent := a.certificate
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func (a authority) fingerprint() [32]byte { return sha256.Sum256(a.certificate.Raw) }

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// serve returns the TLS configuration of a server whose chain has the CA.
func (a authority) serve(t *testing.T, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	template := &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	change(template)
	key := newKey(t)
	leaf := a.sign(t, template, key)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, a.certificate.Raw}, PrivateKey: key}}}
}

func asIs(*x509.Certificate) {}

// coordinator is a bus and what answers on it.
type coordinator struct {
	t      *testing.T
	server *server.Server
	conn   *nats.Conn
	seal   nkeys.KeyPair
	signer nkeys.KeyPair
	ca     authority

	mu       sync.Mutex
	host     string
	failure  *job.Failure    // answer to enrolments
	refuse   map[string]bool // steps of a rotation that get no good answer: stage, confirm
	asked    []bus.EnrolRequest
	renewals []bus.RenewRequest
	account  *jwt.AccountClaims
	operator nkeys.KeyPair
	life     time.Duration // of JWTs; 0: no end
}

func newCoordinator(t *testing.T, config *tls.Config, ca authority) *coordinator {
	t.Helper()
	c := &coordinator{t: t, ca: ca, host: "web1", refuse: map[string]bool{}}
	var err error
	if c.seal, err = nkeys.CreateCurveKeys(); err != nil {
		t.Fatal(err)
	}
	if c.signer, err = nkeys.CreateAccount(); err != nil {
		t.Fatal(err)
	}
	if c.operator, err = nkeys.CreateOperator(); err != nil {
		t.Fatal(err)
	}
	operator := jwt.NewOperatorClaims(public(t, c.operator))
	c.account = jwt.NewAccountClaims(public(t, c.signer))
	account, err := c.account.Encode(c.operator)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Encode(c.operator); err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(c.account.Subject, account); err != nil {
		t.Fatal(err)
	}
	stranger, _ := c.user(true)
	if c.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, TLSConfig: config, TrustedOperators: []*jwt.OperatorClaims{operator},
		AccountResolver: resolver, DefaultSentinel: stranger, NoSigs: true, NoLog: true}); err != nil {
		t.Fatal(err)
	}
	c.server.Start()
	t.Cleanup(func() { c.server.Shutdown(); c.server.WaitForShutdown() })
	if !c.server.ReadyForConnections(patience.Most) {
		t.Fatal("the server does not start")
	}
	own, seed := c.user(false)
	if c.conn, err = nats.Connect("", nats.InProcessServer(c.server), nats.UserJWTAndSeed(own, seed)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.conn.Close)
	for subject, handler := range map[string]nats.MsgHandler{bus.Enrol: c.enrol, bus.AllRenewals: c.renew} {
		if _, err := c.conn.Subscribe(subject, handler); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return c
}

func public(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// user makes a user of the account; a bearer's JWT is enough to connect.
func (c *coordinator) user(bearer bool) (token, seed string) {
	c.t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		c.t.Fatal(err)
	}
	claims := jwt.NewUserClaims(public(c.t, pair))
	claims.BearerToken = bearer
	if token, err = claims.Encode(c.signer); err != nil {
		c.t.Fatal(err)
	}
	text, err := pair.Seed()
	if err != nil {
		c.t.Fatal(err)
	}
	return token, string(text)
}

// revoke ends an identity.
func (c *coordinator) revoke(key string) {
	c.t.Helper()
	c.account.Revoke(key)
	account, err := c.server.LookupAccount(c.account.Subject)
	if err != nil {
		c.t.Fatal(err)
	}
	c.server.UpdateAccountClaims(account, c.account)
}

func (c *coordinator) url() string { return "tls://" + c.server.Addr().String() }

func (c *coordinator) token() bus.EnrolmentToken {
	c.t.Helper()
	key, err := c.seal.PublicKey()
	if err != nil {
		c.t.Fatal(err)
	}
	plain := make([]byte, bus.TokenSecretSize)
	_, _ = rand.Read(plain)
	return bus.EnrolmentToken{URL: c.url(), Fingerprint: c.ca.fingerprint(), Key: key, Secret: secret.New(plain)}
}

func (c *coordinator) jwt(public string) string {
	claims := jwt.NewUserClaims(public)
	if c.life > 0 {
		claims.Expires = time.Now().Add(c.life).Unix()
	}
	token, err := claims.Encode(c.signer)
	if err != nil {
		c.t.Error(err)
	}
	return token
}

func (c *coordinator) respond(msg *nats.Msg, reply any) {
	data, err := json.Marshal(reply)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		c.t.Error(err)
	}
}

func (c *coordinator) enrol(msg *nats.Msg) {
	var message bus.EnrolMessage
	var request bus.EnrolRequest
	if err := errors.Join(json.Unmarshal(msg.Data, &message), bus.OpenMessage(message.Sealed, c.seal, &request)); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, request)
	signer, _ := c.signer.PublicKey()
	sealed, err := bus.SealMessage(bus.EnrolAnswer{
		Failure: c.failure, Host: c.host, JWT: c.jwt(request.PublicKey), Signer: signer, URLs: []string{"tls://backup.example.net:4222", "wss://backup.example.net:443", c.url()},
		CA: string(c.ca.pem()), At: time.Now().Add(-time.Hour),
	}, request.SealKey)
	if err != nil {
		c.t.Error(err)
	}
	c.respond(msg, bus.EnrolReply{Sealed: &sealed})
}

func (c *coordinator) renew(msg *nats.Msg) {
	var request bus.RenewRequest
	if err := json.Unmarshal(msg.Data, &request); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	step := "stage"
	if request.Confirm {
		step = "confirm"
	}
	if c.refuse[step] {
		c.respond(msg, bus.RenewReply{Failure: job.Fail(job.Unavailable, "not now")})
		return
	}
	c.renewals = append(c.renewals, request)
	if request.Confirm {
		c.respond(msg, bus.RenewReply{})
		return
	}
	c.respond(msg, bus.RenewReply{JWT: c.jwt(request.PublicKey)})
}

// change changes what the coordinator does.
func (c *coordinator) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// place is where a host keeps its identity.
type place struct{ dir, data string }

func newPlace(t *testing.T) place {
	t.Helper()
	root := t.TempDir()
	return place{filepath.Join(root, "etc"), filepath.Join(root, "data")}
}

func (p place) enrolment(token bus.EnrolmentToken) identity.Enrolment {
	return identity.Enrolment{Token: token, Data: p.data, Dir: p.dir, AgentVersion: "test", OS: "test"}
}

func wantFailure(t *testing.T, err error, code job.Code) *job.Failure {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok || failure.Code != code {
		t.Fatalf("error %v; want %s", err, code)
	}
	if failure.Hint == "" {
		t.Errorf("no hint: %v", failure)
	}
	return failure
}
