package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/job"
)

// externalLifetime is how long an agent's JWT is good on an external cluster,
// where we cannot revoke it.
const externalLifetime = 24 * time.Hour

// Patience with the servers of a cluster that are asked for an agent.
const (
	firstAnswer = 2 * time.Second
	nextAnswer  = 200 * time.Millisecond // how many servers there are is not known
)

// clientsAnswer is what one server tells of its clients.
type clientsAnswer struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data struct {
		Total       int `json:"total"`
		Connections []struct {
			ID  uint64 `json:"cid"`
			JWT string `json:"jwt"`
		} `json:"connections"`
	} `json:"data"`
}

// cutOff disconnects a client from an external cluster.
func (b *Broker) cutOff(account, publicKey string) error {
	if b.System() == nil {
		return b.cannotCutOff(account, publicKey)
	}
	err := b.askForClients(map[string]any{"acc": b.accountKey(account), "user": publicKey, "auth": true}, b.kickAll)
	if err != nil {
		return fmt.Errorf("disconnect %s: %w", publicKey, err)
	}
	return nil
}

// askForClients asks every server for clients, and hands on what each answers.
func (b *Broker) askForClients(which map[string]any, visit func(clientsAnswer) error) error {
	question, err := json.Marshal(which)
	if err != nil {
		return fmt.Errorf("encode question: %w", err)
	}
	inbox := b.System().NewInbox()
	answers, err := b.System().SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("ask servers for clients: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	if err := b.System().PublishRequest("$SYS.REQ.SERVER.PING.CONNZ", inbox, question); err != nil {
		return fmt.Errorf("ask servers for clients: %w", err)
	}
	for patience := firstAnswer; ; patience = nextAnswer {
		message, err := answers.NextMsg(patience)
		if errors.Is(err, nats.ErrTimeout) && patience == nextAnswer {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask servers for clients: %w", err)
		}
		var answer clientsAnswer
		if err := json.Unmarshal(message.Data, &answer); err != nil {
			return fmt.Errorf("decode a server's answer: %w", err)
		}
		if err := visit(answer); err != nil || b.server != nil { // which is the only one
			return err
		}
	}
}

// cannotCutOff says what has to be done by hand.
func (b *Broker) cannotCutOff(account, publicKey string) error {
	failure := job.Fail(job.Unavailable, "the external bus cannot be told to disconnect %s", publicKey)
	if b.keys.own() {
		return failure.WithHint("give bus.external.system_credentials_file; to end its credentials without, run borgfleet bus export again, with --force, and have nats-server read its configuration again")
	}
	return failure.WithHint("its credentials end by themselves within a day; to end them now run, where the cluster is administered: "+
		"nsc revocations add-user --account %[1]s --user-public-key %[2]s && nsc push --account %[1]s", strings.ToUpper(account), publicKey)
}

// accountKey returns the public key of an account whose users we can revoke.
func (b *Broker) accountKey(name string) string {
	if name == agentsAccount {
		return b.account
	}
	return public(b.keys.accounts[name])
}

// lookAround has judge look at who is connected. It does not block.
func (b *Broker) lookAround() {
	select {
	case b.look <- struct{}{}:
	default: // it will
	}
}

// judge disconnects clients that are connected and must not be: agents that are
// not known, and from an external cluster those that were revoked. It does so
// whenever the system account is there again: who connected meanwhile was not
// told of, and what was revoked meanwhile was not told to the cluster.
func (b *Broker) judge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.look:
		}
		if err := b.cutOffUnknown(ctx); err != nil {
			b.logger.Warn("an agent that is not known may still be connected", "err", err)
		}
		if b.server != nil {
			continue // it refuses them itself
		}
		for _, account := range b.watched() {
			b.cutOffRevokedOf(ctx, account)
		}
	}
}

func (b *Broker) cutOffRevokedOf(ctx context.Context, account string) {
	b.revoking.Lock()
	revoked := b.revoked[account]
	b.revoking.Unlock()
	for key := range revoked {
		if ctx.Err() != nil {
			return
		}
		if err := b.cutOff(account, key); err != nil {
			b.logger.Warn("a client that was revoked may still be connected", "err", err)
		}
	}
}

// watched are the accounts whose clients are judged when they connect.
func (b *Broker) watched() []string {
	if b.server == nil && b.keys.own() {
		return []string{agentsAccount, operatorsAccount}
	}
	return []string{agentsAccount}
}

// kickAll disconnects every client that a server has told of.
func (b *Broker) kickAll(answer clientsAnswer) error {
	for _, client := range answer.Data.Connections {
		if err := b.kick(answer.Server.ID, client.ID); err != nil {
			return err
		}
	}
	return nil
}

// kick asks a server to disconnect a client.
func (b *Broker) kick(server string, client uint64) error {
	request, err := json.Marshal(map[string]uint64{"cid": client})
	if err != nil {
		return err
	}
	// Without a reply subject the server would do nothing. The answer is of no use.
	return b.System().PublishRequest("$SYS.REQ.SERVER."+server+".KICK", b.System().NewInbox(), request)
}
