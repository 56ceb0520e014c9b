package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	dialTimeout = 5 * time.Second
	askTimeout  = 5 * time.Second
	askTries    = 3
)

// Enrolment is what a host needs to get an identity.
type Enrolment struct {
	URL          string // of the bus; empty: the one in the token
	Token        bus.EnrolmentToken
	Host         string // as which this host is configured already; empty: as the token says
	Data         string // state directory
	Dir          string // where credentials are written
	AgentVersion string
	OS           string
}

// Enrolled is a host's new identity.
type Enrolled struct {
	Host      string
	URLs      []string      // of the bus, the one that was used first
	Skew      time.Duration // this host's clock minus the coordinator's
	Files     Files
	enrolment Enrolment
}

// Files are where the parts of an identity lie.
type Files struct {
	Credentials string
	Signer      string
	CA          string // empty: the system's authorities are trusted
}

// Enrol makes keys, spends the token, and writes all files but the
// configuration. Called again with the same token after a crash, or when the
// answer was lost, it goes on with the same keys; [Enrolled.Finish] ends that.
// Faults that a person can mend are *job.Failure; before the token is spent
// nothing has changed.
func Enrol(ctx context.Context, e Enrolment) (Enrolled, error) {
	address, err := parseAddress(firstOf(e.URL, e.Token.URL))
	if err != nil {
		return Enrolled{}, err
	}
	release, err := lock(e.Data)
	if err != nil {
		return Enrolled{}, err
	}
	defer release()
	if err := checkWritable(e.Dir); err != nil {
		return Enrolled{}, err
	}
	keys, err := pendingKeys(e.pending())
	if err != nil {
		return Enrolled{}, err
	}
	answer, skew, err := e.ask(ctx, address, keys)
	if err != nil {
		return Enrolled{}, err
	}
	files, err := e.store(answer, keys)
	if err != nil {
		return Enrolled{}, err
	}
	return Enrolled{Host: answer.Host, URLs: reachable(address, answer.URLs), Skew: skew, Files: files, enrolment: e}, nil
}

// Finish forgets what a repetition would need.
func (e Enrolled) Finish() error {
	waiting := filepath.Dir(e.enrolment.pending())
	if err := errors.Join(os.RemoveAll(waiting), os.RemoveAll(rotating(e.enrolment.Data))); err != nil { // of the identity before, too
		return fmt.Errorf("remove keys that waited: %w", err)
	}
	return nil
}

// pending is where the keys wait: they belong to the token, so that another
// one gets others.
func (e Enrolment) pending() string {
	return filepath.Join(e.Data, "enrol", fmt.Sprintf("%x", sha256.Sum256(e.Token.Secret.Reveal()))[:16])
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// reachable returns the addresses that the agent will use: first the one that
// has just worked, then the others that can stand beside it.
func reachable(used *url.URL, said []string) []string {
	urls := []string{used.String()}
	for _, text := range said {
		if !slices.Contains(urls, text) && overWeb(text) == overWeb(urls[0]) {
			urls = append(urls, text)
		}
	}
	return urls
}

// checkWritable finds out before the token is spent.
func checkWritable(dir string) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".enrol-*")
	if err != nil {
		return denied("write in "+dir, err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// ask spends the token and opens the answer.
func (e Enrolment) ask(ctx context.Context, address *url.URL, keys Keys) (bus.EnrolAnswer, time.Duration, error) {
	conn, err := e.connect(address)
	if err != nil {
		return bus.EnrolAnswer{}, 0, err
	}
	defer conn.Close()
	sent := time.Now()
	reply, err := e.request(ctx, conn, keys)
	if err != nil {
		return bus.EnrolAnswer{}, 0, err
	}
	if reply.Failure != nil {
		return bus.EnrolAnswer{}, 0, reply.Failure
	}
	received := time.Now()
	answer, err := e.open(reply, keys)
	return answer, sent.Add(received.Sub(sent) / 2).Sub(answer.At).Round(time.Millisecond), err
}

// connect connects without credentials.
func (e Enrolment) connect(address *url.URL) (*nats.Conn, error) {
	trust, err := enrolTrust(address, e.Token.Fingerprint)
	if err != nil {
		return nil, err
	}
	options := []nats.Option{
		nats.Name("enrol"), nats.CustomInboxPrefix(bus.EnrolInbox(rand.Text())), nats.Timeout(dialTimeout),
		nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // a missing answer tells it
	}
	if trust != nil {
		options = append(options, nats.Secure(trust))
	}
	conn, err := nats.Connect(address.String(), options...)
	if err != nil && Refused(err) {
		return nil, job.Fail(job.NotAllowed, "the bus at %s lets nobody enrol", address.Redacted()).
			WithHint("see that it is the coordinator's bus; an external cluster must be set up for it")
	}
	if err != nil {
		return nil, Explain(err, address.Redacted())
	}
	return conn, nil
}

// request asks, again when no answer came: the coordinator answers the same
// keys again. Each time says the clock anew.
func (e Enrolment) request(ctx context.Context, conn *nats.Conn, keys Keys) (bus.EnrolReply, error) {
	var last error
	for range askTries {
		sealed, err := bus.SealMessage(bus.EnrolRequest{
			Secret: e.Token.SecretText(), Host: e.Host, PublicKey: keys.Public, SealKey: keys.SealKey, SSHKey: keys.SSHPublic,
			AgentVersion: e.AgentVersion, OS: e.OS, At: time.Now().UTC(),
		}, e.Token.Key)
		if err != nil {
			return bus.EnrolReply{}, fmt.Errorf("seal request: %w", err)
		}
		var reply bus.EnrolReply
		if last = call(ctx, conn, bus.Enrol, bus.EnrolMessage{Sealed: sealed}, &reply); last == nil {
			return reply, nil
		}
		if ctx.Err() != nil || !errors.Is(last, context.DeadlineExceeded) {
			break
		}
	}
	if errors.Is(last, nats.ErrNoResponders) || errors.Is(last, context.DeadlineExceeded) {
		return bus.EnrolReply{}, job.Fail(job.Unavailable, "the bus answers, but no coordinator does").
			WithHint("see that the coordinator runs, and run the same command again: the token is still good")
	}
	return bus.EnrolReply{}, fmt.Errorf("ask for an identity: %w", last)
}

// call sends a request and decodes the answer.
func call(ctx context.Context, conn *nats.Conn, subject string, request, reply any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	msg, err := conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(msg.Data, reply); err != nil {
		return fmt.Errorf("decode the coordinator's answer: %w", err)
	}
	return nil
}

// open reads an answer, which must fit the token and the keys.
func (e Enrolment) open(reply bus.EnrolReply, keys Keys) (bus.EnrolAnswer, error) {
	own, err := nkeys.FromCurveSeed(keys.seal)
	if err != nil {
		return bus.EnrolAnswer{}, fmt.Errorf("read seal key: %w", err)
	}
	unfit := job.Fail(job.Internal, "the coordinator's answer does not fit this host's request").
		WithHint("versions of coordinator and agent may be too far apart")
	var answer bus.EnrolAnswer
	if reply.Sealed == nil || bus.OpenMessage(*reply.Sealed, own, &answer) != nil {
		return bus.EnrolAnswer{}, unfit
	}
	if answer.Failure != nil {
		return bus.EnrolAnswer{}, answer.Failure
	}
	said, err := readJWT(answer.JWT)
	fits := err == nil && said.Subject == keys.Public && nkeys.IsValidPublicKey(answer.Signer) &&
		job.CheckHostName("host", answer.Host) == nil && (e.Host == "" || e.Host == answer.Host) &&
		(e.Token.Fingerprint == [sha256.Size]byte{} || holds([]byte(answer.CA), e.Token.Fingerprint))
	if !fits {
		return bus.EnrolAnswer{}, unfit
	}
	return answer, nil
}

// holds reports whether a certificate with this SHA-256 is in a PEM text.
func holds(text []byte, fingerprint [sha256.Size]byte) bool {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if sha256.Sum256(block.Bytes) == fingerprint {
			return true
		}
	}
	return false
}

// store writes all that the answer and the keys make up, the credentials last.
func (e Enrolment) store(answer bus.EnrolAnswer, keys Keys) (Files, error) {
	if err := keys.install(e.Data); err != nil {
		return Files{}, err
	}
	files := Files{Credentials: filepath.Join(e.Dir, credentialsFile), Signer: filepath.Join(e.Dir, "signer.pub")}
	if answer.CA != "" {
		files.CA = filepath.Join(e.Dir, "ca.pem")
		if err := WriteFile(files.CA, []byte(answer.CA), 0o644); err != nil {
			return Files{}, err
		}
	}
	if err := WriteFile(files.Signer, []byte(answer.Signer+"\n"), 0o644); err != nil {
		return Files{}, err
	}
	return files, WriteFile(files.Credentials, formatCredentials(answer.JWT, keys.bus), 0o600)
}
