package authority_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/authority"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// start is the first moment of the tests' clock.
var start = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func options(dir string) authority.Options {
	return authority.Options{
		Dir: dir, Names: []string{"backup.example.net", "127.0.0.1", "::1"},
		Now: func() time.Time { return start }, Logger: hclog.NewNullLogger(),
	}
}

func open(t testing.TB, options authority.Options) *authority.Authority {
	t.Helper()
	a, err := authority.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// shown returns the chain that a client gets to see.
func shown(t testing.TB, a *authority.Authority) []*x509.Certificate {
	t.Helper()
	pair, err := a.ServerConfig().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, certificate)
	}
	return chain
}

// trusts checks that who trusts the authority believes the server.
func trusts(t testing.TB, a *authority.Authority, name string, at time.Time) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CA()) {
		t.Fatal("CA returns no certificate")
	}
	if _, err := shown(t, a)[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at}); err != nil {
		t.Error(err)
	}
}

func wantFailure(t testing.TB, err error, code job.Code, says, hint string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok {
		t.Fatalf("error %v is not a failure", err)
	}
	if failure.Code != code || !strings.Contains(failure.Message, says) || !strings.Contains(failure.Hint, hint) {
		t.Errorf("failure %s %q, hint %q; want %s, %q, %q", failure.Code, failure.Message, failure.Hint, code, says, hint)
	}
}

func TestOwnAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "tls")
	a := open(t, options(dir))
	for _, name := range []string{"backup.example.net", "127.0.0.1", "[::1]"} {
		trusts(t, a, name, start.Add(-23*time.Hour)) // a host whose clock is behind
	}
	chain := shown(t, a)
	if len(chain) != 2 {
		t.Fatalf("the chain has %d certificates", len(chain))
	}
	server, ca := chain[0], chain[1]
	if got := sha256.Sum256(ca.Raw); got != a.Fingerprint() {
		t.Error("the chain does not end with what the fingerprint tells")
	}
	if !ca.IsCA || !ca.MaxPathLenZero || ca.MaxPathLen != 0 || len(ca.SubjectKeyId) == 0 ||
		!strings.HasPrefix(ca.Subject.CommonName, "borgfleet ") || !ca.NotAfter.Equal(start.Add(3650*day)) {
		t.Errorf("authority %+v", ca)
	}
	if server.IsCA || !server.NotBefore.Equal(start.Add(-day)) || !server.NotAfter.Equal(start.Add(90*day)) || !a.Expires().Equal(server.NotAfter) {
		t.Errorf("server from %s to %s", server.NotBefore, server.NotAfter)
	}
	again := open(t, options(dir))
	if again.Fingerprint() != a.Fingerprint() || !shown(t, again)[0].Equal(server) {
		t.Error("another start made another certificate")
	}
	other := open(t, options(t.TempDir()))
	if other.Fingerprint() == a.Fingerprint() || shown(t, other)[1].Subject.CommonName == ca.Subject.CommonName {
		t.Error("two authorities cannot be told apart")
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, options(dir))
	modes := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		modes[strings.TrimPrefix(path, dir)] = info.Mode().String()
		return err
	})
	want := map[string]string{"": "drwx------", "/authority.pem": "-rw-------", "/server.pem": "-rw-------"}
	if diff := cmp.Diff(want, modes); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestOwnCertificateIsReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*authority.Options)
		spoil    func(server string) error
		replaced bool
	}{
		"nothing changed": {func(*authority.Options) {}, nil, false},
		"another order": {func(o *authority.Options) { o.Names = []string{"127.0.0.1", "::1", "backup.example.net", "::1"} },
			nil, false},
		"other names":    {func(o *authority.Options) { o.Names = []string{"backup.example.net", "192.0.2.7"} }, nil, true},
		"before renewal": {func(o *authority.Options) { o.Now = func() time.Time { return start.Add(59 * day) } }, nil, false},
		"renewal":        {func(o *authority.Options) { o.Now = func() time.Time { return start.Add(61 * day) } }, nil, true},
		"expired":        {func(o *authority.Options) { o.Now = func() time.Time { return start.Add(400 * day) } }, nil, true},
		"clock went back": {func(o *authority.Options) { o.Now = func() time.Time { return start.Add(-2 * day) } },
			nil, true},
		"lost": {func(*authority.Options) {}, os.Remove, true},
		"of another authority": {func(*authority.Options) {}, func(path string) error {
			other := options(t.TempDir())
			open(t, other)
			return os.WriteFile(path, read(t, filepath.Join(other.Dir, "server.pem")), 0o600)
		}, true},
		"spoiled": {func(*authority.Options) {}, func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			before := open(t, o)
			if test.spoil != nil {
				if err := test.spoil(filepath.Join(o.Dir, "server.pem")); err != nil {
					t.Fatal(err)
				}
			}
			test.change(&o)
			after := open(t, o)
			if after.Fingerprint() != before.Fingerprint() {
				t.Error("the authority has changed")
			}
			if replaced := !shown(t, after)[0].Equal(shown(t, before)[0]); replaced != test.replaced {
				t.Errorf("replaced %v", replaced)
			}
			if name != "clock went back" { // the authority itself is too young then
				trusts(t, after, "backup.example.net", o.Now())
			}
			if again := open(t, o); !shown(t, again)[0].Equal(shown(t, after)[0]) {
				t.Error("the new certificate was not kept")
			}
		})
	}
}

func TestNoCertificateOutlivesItsAuthority(t *testing.T) {
	o := options(t.TempDir())
	open(t, o)
	o.Now = func() time.Time { return start.Add(3640 * day) }
	a := open(t, o)
	if !a.Expires().Equal(start.Add(3650 * day)) {
		t.Errorf("expires %s", a.Expires())
	}
	o.Now = func() time.Time { return start.Add(3649*day + 23*time.Hour) }
	if again := open(t, o); !shown(t, again)[0].Equal(shown(t, a)[0]) {
		t.Error("renewed, and no better than before")
	}
	o.Now = func() time.Time { return start.Add(3650 * day) }
	_, err := authority.Open(o)
	wantFailure(t, err, job.Unavailable, "expired on 2036-11-19", "clock")
}

func TestOpenRefusesASpoiledAuthority(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir string) error
		code  job.Code
		says  string
		hint  string
	}{
		"authority lost": {func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "authority.pem")) },
			job.KeyMissing, "is not there", "backup"},
		"authority open to others": {func(_ *testing.T, dir string) error { return os.Chmod(filepath.Join(dir, "authority.pem"), 0o640) },
			job.NotAllowed, "open to others (mode 0640)", "chmod 600"},
		"server open to others": {func(_ *testing.T, dir string) error { return os.Chmod(filepath.Join(dir, "server.pem"), 0o644) },
			job.NotAllowed, "open to others", "chmod 600"},
		"cut short": {func(_ *testing.T, dir string) error { return os.Truncate(filepath.Join(dir, "authority.pem"), 300) },
			job.KeyMissing, "does not hold an authority's key", "backup"},
		"another's key": {func(t *testing.T, dir string) error {
			other := options(t.TempDir())
			open(t, other)
			key, _ := pem.Decode(read(t, filepath.Join(other.Dir, "authority.pem")))
			_, certificate := pem.Decode(read(t, filepath.Join(dir, "authority.pem")))
			return os.WriteFile(filepath.Join(dir, "authority.pem"), append(pem.EncodeToMemory(key), certificate...), 0o600)
		}, job.KeyMissing, "private key does not match", "backup"},
		"a server's": {func(t *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "authority.pem"), read(t, filepath.Join(dir, "server.pem")), 0o600)
		}, job.KeyMissing, "may not sign others", "backup"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			open(t, o)
			if err := test.spoil(t, o.Dir); err != nil {
				t.Fatal(err)
			}
			_, err := authority.Open(o)
			wantFailure(t, err, test.code, test.says, test.hint)
		})
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCrashAtTheFirstStart leaves each state behind that a crash can leave: the
// next start makes the rest.
func TestCrashAtTheFirstStart(t *testing.T) {
	o := options(t.TempDir())
	first := open(t, o)
	if err := os.Remove(filepath.Join(o.Dir, "server.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, ".server.pem123"), []byte("half"), 0o600); err != nil { // as renameio leaves it
		t.Fatal(err)
	}
	second := open(t, o)
	if second.Fingerprint() != first.Fingerprint() {
		t.Error("the authority was made anew")
	}
	trusts(t, second, "backup.example.net", start)
}

// asNobody runs f on a thread that has no rights beyond those of an ordinary
// user, so that the test also tells something when root runs it.
func asNobody(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Getuid() == 0 {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			_, _ = unix.SetfsuidRetUid(65534)
		}
		f()
	}()
	<-done
}

// journal is a log that can be read while it is written.
type journal struct {
	mutex sync.Mutex
	text  strings.Builder
}

func (j *journal) Write(line []byte) (int, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	return j.text.String()
}

// running runs an authority in the background of a synctest bubble.
func running(t *testing.T, a *authority.Authority) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pass lets time pass, with what Run does meanwhile.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRunRenews(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := options(dir)
		o.Now = nil
		a := open(t, o)
		running(t, a)
		first := shown(t, a)[0]
		pass(59 * day)
		if !shown(t, a)[0].Equal(first) {
			t.Error("renewed too early")
		}
		pass(2 * day)
		second := shown(t, a)[0]
		if second.Equal(first) {
			t.Error("not renewed")
		}
		trusts(t, a, "backup.example.net", time.Now())
		if !shown(t, open(t, o))[0].Equal(second) {
			t.Error("the new certificate was not stored")
		}
	})
}

func TestRunKeepsTheCertificateWhenTheDirectoryCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := &journal{}
		o := options(dir)
		o.Now, o.Logger = nil, hclog.New(&hclog.LoggerOptions{Output: log})
		a := open(t, o)
		first := shown(t, a)[0]
		away := dir + ".away"
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		running(t, a)
		pass(61 * day)
		if !shown(t, a)[0].Equal(first) {
			t.Error("a certificate is shown that was not stored")
		}
		if err := os.Rename(away, dir); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Minute)
		if shown(t, a)[0].Equal(first) {
			t.Error("not renewed")
		}
		if n := strings.Count(log.String(), "not renewed"); n != 1 {
			t.Errorf("it was said %d times:\n%s", n, log)
		}
	})
}
