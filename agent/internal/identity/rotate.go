package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Rotation changes all keys of an enrolled host.
type Rotation struct {
	Host        string
	URLs        []string
	TLS         *tls.Config // nil: see bus.ConnectOptions
	Credentials string      // path of the .creds file
	Data        string      // state directory
}

// Rotate changes the bus identity, the seal key and the SSH key. The order of
// its steps is what makes it safe to be interrupted anywhere, and repeated: the
// new keys are kept before anybody hears of them; the coordinator lets both
// identities in until the new one is confirmed; and the credentials file is
// replaced in between, so that it never holds what was revoked. A running agent
// is cut off when the old identity ends, and connects again with the new file.
// It returns the new public key.
func (r Rotation) Rotate(ctx context.Context) (string, error) {
	release, err := lock(r.Data)
	if err != nil {
		return "", err
	}
	defer release()
	if _, err := ReadCredentials(r.Credentials, r.Host); err != nil {
		return "", err
	}
	keys, token, err := r.prepare(ctx)
	if failure, ok := errors.AsType[*job.Failure](err); ok && failure.Code == job.Conflict {
		// Keys that waited have been ended meanwhile: others may do.
		if err = r.forget(); err == nil {
			keys, token, err = r.prepare(ctx)
		}
	}
	if err != nil {
		return "", err
	}
	if err := r.take(ctx, token, keys); err != nil {
		return "", err
	}
	if err := keys.installSSH(r.Data); err != nil {
		return "", err
	}
	return keys.Public, r.forget()
}

// rotating is where the keys of a rotation wait.
func rotating(data string) string { return filepath.Join(data, "rotate") }

func (r Rotation) forget() error {
	if err := os.RemoveAll(rotating(r.Data)); err != nil {
		return fmt.Errorf("remove keys that waited: %w", err)
	}
	return nil
}

// prepare makes new keys, or takes those that wait, and makes them known.
func (r Rotation) prepare(ctx context.Context) (Keys, string, error) {
	keys, err := pendingKeys(rotating(r.Data))
	if err != nil {
		return Keys{}, "", err
	}
	if err := keys.addSealKey(r.Data); err != nil { // before anything is sealed to it
		return Keys{}, "", err
	}
	token, err := r.stage(ctx, keys.request())
	return keys, token, err
}

func (k Keys) request() bus.RenewRequest {
	return bus.RenewRequest{PublicKey: k.Public, SealKey: k.SealKey, SSHKey: k.SSHPublic}
}

// stage makes the new identity known, over the present one.
func (r Rotation) stage(ctx context.Context, request bus.RenewRequest) (string, error) {
	conn, err := r.connect(r.Credentials)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	reply, err := r.ask(ctx, conn, request)
	if err != nil {
		return "", err
	}
	if said, err := readJWT(reply.JWT); err != nil || said.Subject != request.PublicKey {
		return "", job.Fail(job.Internal, "the coordinator's answer is not for the new identity").
			WithHint("versions of coordinator and agent may be too far apart")
	}
	return reply.JWT, nil
}

// take tries the new identity, makes it this host's, and confirms it.
func (r Rotation) take(ctx context.Context, token string, keys Keys) error {
	fresh := r.Credentials + ".new"
	if err := WriteFile(fresh, formatCredentials(token, keys.bus), 0o600); err != nil {
		return err
	}
	conn, err := r.connect(fresh)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := os.Rename(fresh, r.Credentials); err != nil {
		return denied("replace "+r.Credentials, err)
	}
	if err := disk.SyncDir(filepath.Dir(r.Credentials)); err != nil {
		return err
	}
	request := keys.request()
	request.Confirm = true
	_, err = r.ask(ctx, conn, request)
	return err
}

// connect connects beside the running agent, to the first address that answers.
func (r Rotation) connect(credentials string) (*nats.Conn, error) {
	return Connect(r.URLs, r.Options(credentials))
}

// Options are those of a connection with the given credentials.
func (r Rotation) Options(credentials string) bus.ConnectOptions {
	return bus.ConnectOptions{Name: r.Host, Credentials: credentials, TLS: r.TLS}
}

func (r Rotation) ask(ctx context.Context, conn *nats.Conn, request bus.RenewRequest) (bus.RenewReply, error) {
	var reply bus.RenewReply
	err := call(ctx, conn, bus.RenewSubject(r.Host), request, &reply)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
		return reply, job.Fail(job.Unavailable, "the bus answers, but no coordinator does").
			WithHint("run the same command again when it does; it goes on where it stopped")
	}
	if err != nil {
		return reply, fmt.Errorf("ask for new credentials: %w", err)
	}
	if reply.Failure != nil {
		return reply, reply.Failure
	}
	return reply, nil
}

// Connect connects once, to the first of the addresses that answers, and does
// not wait for one that does not. Faults are *job.Failure.
func Connect(urls []string, o bus.ConnectOptions) (*nats.Conn, error) {
	var last error
	for _, address := range urls {
		options := append(o.Options(), nats.RetryOnFailedConnect(false), nats.MaxReconnects(0), nats.Timeout(dialTimeout))
		conn, err := nats.Connect(address, options...)
		if err == nil {
			return conn, nil
		}
		if last == nil || Refused(err) { // a refusal says more than silence
			last = Explain(err, address)
		}
	}
	if last == nil {
		return nil, job.Fail(job.Unavailable, "no address of a bus is configured (%s)", strings.Join(urls, ", ")).
			WithHint("set bus.urls in agent.yaml")
	}
	return nil, last
}
