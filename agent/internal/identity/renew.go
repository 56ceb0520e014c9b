package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Requester sends a request over the agent's connection.
type Requester interface {
	// Request returns the answer. Any error means that there may be none.
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// Renewal keeps credentials that expire alive, with the same keys.
type Renewal struct {
	Host        string
	Credentials string // path of the .creds file
	Data        string // state directory
	Bus         Requester
	Logger      hclog.Logger
	Every       time.Duration // between looks at the file; 0: a minute
}

// Run looks at the credentials now and then, and asks for others when two
// thirds of their life are over, until ctx ends. The connection goes on; when
// the old ones expire it is made again with what the file holds then.
func (r Renewal) Run(ctx context.Context) error {
	every := r.Every
	if every == 0 {
		every = time.Minute
	}
	logger := r.Logger.Named("identity")
	tick := time.NewTicker(every)
	defer tick.Stop()
	fault := ""
	for {
		renewed, err := r.look(ctx, time.Now())
		if renewed {
			logger.Info("the credentials for the bus were renewed")
		}
		if err != nil && ctx.Err() == nil && err.Error() != fault {
			logger.Warn("renew the credentials for the bus; trying again", "err", err)
		}
		fault = ""
		if err != nil {
			fault = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look renews the credentials if it is time.
func (r Renewal) look(ctx context.Context, now time.Time) (bool, error) {
	present, err := ReadCredentials(r.Credentials, r.Host)
	if err != nil {
		return false, err
	}
	if present.Expires.IsZero() || now.Before(present.renewAt()) {
		return false, nil
	}
	release, err := lock(r.Data)
	if err != nil {
		return false, err // a rotation, which renews as well
	}
	defer release()
	if present, err = ReadCredentials(r.Credentials, r.Host); err != nil { // which nobody else changes now
		return false, err
	}
	if now.Before(present.renewAt()) {
		return false, nil
	}
	token, err := r.ask(ctx, present.Public)
	if err != nil {
		return false, err
	}
	return true, WriteFile(r.Credentials, formatCredentials(token, present.seed), 0o600)
}

// renewAt is when two thirds of the life are over.
func (c Credentials) renewAt() time.Time { return c.Issued.Add(c.Expires.Sub(c.Issued) * 2 / 3) }

func (r Renewal) ask(ctx context.Context, publicKey string) (string, error) {
	data, err := json.Marshal(bus.RenewRequest{PublicKey: publicKey})
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := r.Bus.Request(ctx, bus.RenewSubject(r.Host), data)
	if err != nil {
		return "", fmt.Errorf("ask for other credentials: %w", err)
	}
	var reply bus.RenewReply
	if err := json.Unmarshal(answer, &reply); err != nil {
		return "", fmt.Errorf("decode the coordinator's answer: %w", err)
	}
	if reply.Failure != nil {
		return "", reply.Failure
	}
	if said, err := readJWT(reply.JWT); err != nil || said.Subject != publicKey {
		return "", fmt.Errorf("the coordinator's answer is not for this host's identity: %w", errNoJWT)
	}
	return reply.JWT, nil
}
