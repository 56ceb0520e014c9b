package agentlink_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// BenchmarkStream reads 256 MiB through the embedded server, from a host that
// connects as agents do: over TLS.
func BenchmarkStream(b *testing.B) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	pair := certified.TLS.Certificates[0]
	serving := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }}
	server, err := broker.Start(b.Context(), broker.Options{Dir: b.TempDir(), Listen: "127.0.0.1:0", TLS: serving, Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	credentials, _ := mint(b, server, "web1")
	file := filepath.Join(b.TempDir(), "web1.creds")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		b.Fatal(err)
	}
	web1, err := nats.Connect(server.URL(), bus.ConnectOptions{Name: "web1", Credentials: file, TLS: &tls.Config{RootCAs: roots}}.Options()...)
	if err != nil {
		b.Fatal(err)
	}
	defer web1.Close()
	const length = 256 << 20
	s := &source{length: length, fill: func(int64, []byte) {}}
	s.serve(b, web1)
	link := agentlink.New(server.Agents(), server.Signer())
	b.SetBytes(length)
	b.ReportAllocs()
	for b.Loop() {
		stream := link.Stream(b.Context(), "web1", streamed, 2)
		n, err := io.Copy(io.Discard, stream)
		if err != nil || n != length {
			b.Fatalf("%d bytes (%v)", n, err)
		}
		if err := stream.Close(); err != nil {
			b.Error(err)
		}
	}
}
