package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// certificates returns a server's and a client's configuration that trust each
// other.
func certificates(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bus"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pair := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	server = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair, nil }}
	return server, &tls.Config{RootCAs: roots}
}

func TestWithACertificateTheBusListensOnEveryAddress(t *testing.T) {
	server, trusting := certificates(t)
	b := start(t, broker.Options{Listen: "0.0.0.0:0", Websocket: "0.0.0.0:0", TLS: server})
	credentials, _ := hostKeys(t, b, "web1")
	for scheme, url := range map[string]string{"tls": b.URL(), "wss": b.WebsocketURL()} {
		t.Run(scheme, func(t *testing.T) {
			url = strings.Replace(url, "0.0.0.0", "127.0.0.1", 1)
			if !strings.HasPrefix(url, scheme+"://") {
				t.Fatalf("URL %s", url)
			}
			file := credentialsFile(t, credentials)
			web1, err := nats.Connect(url, bus.ConnectOptions{Name: "web1", Credentials: file, TLS: trusting}.Options()...)
			if err != nil {
				t.Fatal(err)
			}
			defer web1.Close()
			flush(t, web1)
			publish(t, web1, "web1", job.NewID(time.Now()), 1)
			if _, err := nats.Connect(url, nats.UserCredentials(file)); err == nil {
				t.Error("connected without trusting the certificate")
			}
		})
	}
	plain := strings.Replace(strings.Replace(b.URL(), "0.0.0.0", "127.0.0.1", 1), "tls://", "nats://", 1)
	if _, err := nats.Connect(plain, nats.SetCustomDialer(withoutTLS{})); err == nil {
		t.Error("connected without TLS")
	}
	if err := b.Healthy(); err != nil {
		t.Error(err)
	}
	if n := b.Refusals()[broker.RefusedHandshake]; n == 0 {
		t.Error("no failed handshake was counted")
	}
}

// withoutTLS is a dialer for a connection on which TLS is left out.
type withoutTLS struct{}

func (withoutTLS) Dial(network, address string) (net.Conn, error) { return net.Dial(network, address) }

// SkipTLSHandshake tells nats.go to do none.
func (withoutTLS) SkipTLSHandshake() bool { return true }

func TestWithoutACertificateTheWebsocketStaysOnLoopback(t *testing.T) {
	_, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Websocket: "0.0.0.0:0", Logger: logger(t)})
	if failure := job.AsFailure(err); failure == nil || failure.Code != job.InvalidRequest || !strings.Contains(failure.Error(), "bus.websocket") {
		t.Errorf("start: %v", err)
	}
	b := start(t, broker.Options{Websocket: "127.0.0.1:0"})
	credentials, _ := hostKeys(t, b, "web1")
	connection, err := nats.Connect(b.WebsocketURL(), nats.UserCredentials(credentialsFile(t, credentials)))
	if err != nil {
		t.Fatal(err)
	}
	connection.Close()
}
