package identity_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// enrolled is a host of a coordinator.
func enrolled(t *testing.T) (*coordinator, place, identity.Rotation) {
	t.Helper()
	ca := newAuthority(t)
	c, p := newCoordinator(t, ca.serve(t, asIs), ca), newPlace(t)
	e, err := identity.Enrol(t.Context(), p.enrolment(c.token()))
	if err == nil {
		err = e.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.Trust(e.Files.CA)
	if err != nil {
		t.Fatal(err)
	}
	return c, p, identity.Rotation{Host: e.Host, URLs: e.URLs[:1], TLS: trust, Credentials: e.Files.Credentials, Data: p.data}
}

func publicKey(t *testing.T, r identity.Rotation) string {
	t.Helper()
	credentials, err := identity.ReadCredentials(r.Credentials, r.Host)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.Public
}

func TestRotateChangesAllKeys(t *testing.T) {
	c, p, r := enrolled(t)
	before := publicKey(t, r)
	ring, err := identity.OpenRing(p.data, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	purpose := secret.Purpose{Host: "web1", Repository: "main"}
	old, err := secret.Seal(secret.FromString("hunter2"), purpose, ring.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := r.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if public == before || publicKey(t, r) != public {
		t.Errorf("identity %s, was %s, file has %s", public, before, publicKey(t, r))
	}
	if len(c.renewals) != 2 || c.renewals[0].Confirm || !c.renewals[1].Confirm || c.renewals[1].PublicKey != public {
		t.Errorf("asked %+v", c.renewals)
	}
	if ring.Public() != c.renewals[0].SealKey {
		t.Error("the ring that is in use has not noticed the new key")
	}
	if value, err := ring.Open(old, purpose); err != nil || string(value.Reveal()) != "hunter2" {
		t.Errorf("what was sealed before does not open: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(p.data, "ssh/depot.pub")); err != nil || string(text) != c.renewals[0].SSHKey+"\n" {
		t.Errorf("SSH key %s, error %v", text, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(p.dir), "*", "*.new")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestRotateGoesOnWhereItStopped lets each step fail. The file must hold
// credentials that work at every moment.
func TestRotateGoesOnWhereItStopped(t *testing.T) {
	for _, step := range []string{"stage", "confirm"} {
		t.Run(step, func(t *testing.T) {
			c, _, r := enrolled(t)
			c.change(func() { c.refuse[step] = true })
			if _, err := r.Rotate(t.Context()); err == nil {
				t.Fatal("no error")
			}
			conn, err := identity.Connect(r.URLs, r.Options(r.Credentials))
			if err != nil {
				t.Fatalf("the credentials do not work: %v", err)
			}
			conn.Close()
			c.change(func() { clear(c.refuse) })
			public, err := r.Rotate(t.Context())
			if err != nil || publicKey(t, r) != public {
				t.Fatalf("identity %s, error %v", public, err)
			}
			for _, request := range c.renewals {
				if request.PublicKey != public {
					t.Errorf("two identities were asked for: %+v", c.renewals)
				}
			}
			if again, err := r.Rotate(t.Context()); err != nil || again == public {
				t.Errorf("the next rotation: %s, error %v", again, err)
			}
		})
	}
}

func TestRotateWithCredentialsThatHaveEnded(t *testing.T) {
	c, _, r := enrolled(t)
	public := publicKey(t, r)
	c.revoke(public)
	_, err := r.Rotate(t.Context())
	wantFailure(t, err, job.NotAuthenticated)
	if publicKey(t, r) != public {
		t.Error("the credentials have changed")
	}
}

// session is the connection of an agent.
type session func(ctx context.Context, subject string, data []byte) ([]byte, error)

func (s session) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	return s(ctx, subject, data)
}

func TestCredentialsThatExpireAreRenewedInTime(t *testing.T) {
	c, p, r := enrolled(t)
	c.change(func() { c.life = 3 * time.Second }) // of two seconds, one is left at renewal
	public, err := r.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.change(func() { c.life = time.Hour })
	first := true
	renewal := identity.Renewal{
		Host: "web1", Credentials: r.Credentials, Data: p.data, Logger: hclog.NewNullLogger(), Every: 10 * time.Millisecond,
		Bus: session(func(ctx context.Context, subject string, data []byte) ([]byte, error) {
			if first {
				first = false
				return nil, errors.New("no answer")
			}
			msg, err := c.conn.RequestWithContext(ctx, subject, data)
			if err != nil {
				return nil, err
			}
			return msg.Data, nil
		}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- renewal.Run(ctx) }()
	for deadline := time.Now().Add(patience.Most); ; {
		credentials, err := identity.ReadCredentials(r.Credentials, "web1")
		if err != nil || credentials.Public != public {
			t.Fatalf("credentials %+v, error %v", credentials, err)
		}
		if time.Until(credentials.Expires) > time.Minute {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not renewed")
		}
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
