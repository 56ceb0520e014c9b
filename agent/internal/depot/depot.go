// Package depot is this host's way to its coordinator's depot: the key that it
// shows there, and the key that it expects. An order says where the depot is and
// how it proves itself; as orders are signed, nobody else can say so.
package depot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Way is the way from this host to the depot. It is safe for concurrent use.
type Way struct {
	data string
}

// New returns the way of the host whose agent has this state directory.
func New(data string) Way { return Way{data: data} }

// identity is the private key that enrolment has made.
func (w Way) identity() string { return filepath.Join(w.data, "ssh", "depot") }

func (w Way) knownHosts() string { return filepath.Join(w.data, "depot_known_hosts") }

// RSH returns how borg reaches the repository of an order, or why it cannot;
// empty when that is not in the depot, or a directory of this host.
func (w Way) RSH(_ context.Context, order bus.Order) (string, *job.Failure) {
	if order.Depot == nil {
		return "", nil
	}
	address, key, failure := check(*order.Depot)
	if failure != nil {
		return "", failure
	}
	if _, err := os.Stat(w.identity()); errors.Is(err, fs.ErrNotExist) {
		return "", job.Fail(job.KeyMissing, "this host has no key for the coordinator's depot: %s is missing", w.identity()).
			WithHint("make new keys on the host: borgfleet-agent rotate")
	}
	if err := w.remember(address, key); err != nil {
		return "", job.AsFailure(err)
	}
	return borg.DepotRSH(borg.DepotAccess{Identity: w.identity(), KnownHosts: w.knownHosts(), Address: address}), nil
}

// check returns the parts of what an order says, in their one form.
func check(said bus.Depot) (address, key string, failure *job.Failure) {
	if said.Address == "" {
		return "", "", nowhere("the coordinator does not say where its depot can be reached")
	}
	host, port, err := net.SplitHostPort(said.Address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" || strings.HasPrefix(host, "-") || strings.ContainsAny(host, " \t\r\n\"'\\") {
		return "", "", nowhere("the coordinator says that its depot is at %q, which is no address", said.Address)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(said.HostKey))
	if err != nil {
		return "", "", job.Fail(job.Internal, "the coordinator does not say by which key its depot is known: %s", err)
	}
	return said.Address, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), nil
}

// nowhere is a failure that another attempt does not mend.
func nowhere(format string, args ...any) *job.Failure {
	failure := job.Fail(job.HostUnreachable, format, args...).
		WithHint("set depot.address in coordinator.yaml to an address that this host can connect to, for example backup.example.net:2222")
	failure.Retryable = false
	return failure
}

// place begins the line that says where the depot is. For ssh it is a comment.
const place = "# the coordinator's depot is at "

// remember writes what ssh, and [Way.Check], have to know. A job that runs
// meanwhile reads the file from before or the new one.
func (w Way) remember(address, key string) error {
	text := []byte(place + address + "\n" + borg.DepotKnownHost(key))
	if present, err := os.ReadFile(w.knownHosts()); err == nil && bytes.Equal(present, text) {
		return nil
	}
	if err := renameio.WriteFile(w.knownHosts(), text, 0o600); err != nil {
		return fmt.Errorf("write the depot's key: %w", err)
	}
	return disk.SyncDir(w.data)
}

// errSeen ends a handshake in which the server has proved itself.
var errSeen = errors.New("seen")

// checkTime bounds a try to reach the depot.
const checkTime = 10 * time.Second

// Check tries to reach the depot that the newest order has named. It sees
// whether the server there proves to be the depot, and logs in nowhere. The
// address is empty when no order has named any.
func (w Way) Check(ctx context.Context) (address string, err error) {
	text, err := os.ReadFile(w.knownHosts())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the depot's key: %w", err)
	}
	first, line, _ := strings.Cut(string(text), "\n")
	address = strings.TrimPrefix(first, place)
	_, _, key, _, _, err := ssh.ParseKnownHosts([]byte(line))
	if err != nil {
		return address, fmt.Errorf("read the depot's key in %s: %w", w.knownHosts(), err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return address, greet(ctx, address, key)
}

// greet goes through a handshake as far as the server's key.
func greet(ctx context.Context, address string, key ssh.PublicKey) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return job.Fail(job.HostUnreachable, "the coordinator's depot at %s cannot be reached: %s", address, err).
			WithHint("see depot.listen and depot.address in coordinator.yaml, and the firewalls in between")
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return fmt.Errorf("bound the try: %w", err)
		}
	}
	var shown ssh.PublicKey
	_, _, _, err = ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		HostKeyAlgorithms: []string{key.Type()},
		HostKeyCallback:   func(_ string, _ net.Addr, public ssh.PublicKey) error { shown = public; return errSeen },
	})
	switch {
	case shown == nil:
		return job.Fail(job.HostUnreachable, "what answers at %s does not behave as the coordinator's depot: %s", address, err).
			WithHint("see depot.address in coordinator.yaml: it must lead to depot.listen of the coordinator")
	case !bytes.Equal(shown.Marshal(), key.Marshal()):
		return job.Fail(job.HostKeyChanged, "what answers at %s has the key %s, and the coordinator's depot has %s",
			address, ssh.FingerprintSHA256(shown), ssh.FingerprintSHA256(key)).
			WithHint("see whether depot.address in coordinator.yaml leads to the coordinator; otherwise somebody may be in between")
	}
	return nil
}
