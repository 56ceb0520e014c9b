package broker

import (
	"context"

	"github.com/nats-io/jwt/v2"
)

// clientPage is how many clients a server tells of at once: some 2 KiB each, in
// one message.
const clientPage = 256

// Admit has agents disconnected that known does not know by their public key, now
// and whenever they connect. The server lets in whom it was once told to: the
// credentials of a host that was removed work again when keys and revocations
// were put back to an older copy. known must be quick and safe for concurrent use,
// and know a key before its host is given credentials. Without a system account
// it is never asked.
func (b *Broker) Admit(known func(publicKey string) bool) {
	b.known.Store(&known)
	if b.System() != nil {
		b.lookAround()
	}
}

// isUnknown reports whether a JWT makes its bearer an agent, and of a host that
// nobody knows. Others in the account (we, those who enrol, and who else there may
// be on an external cluster) have theirs from other keys.
func (b *Broker) isUnknown(token string) bool {
	known := b.known.Load()
	if known == nil {
		return false
	}
	claims, err := jwt.DecodeUserClaims(token)
	return err == nil && claims.Issuer == public(b.agents.key) && !(*known)(claims.Subject)
}

// once returns a logger for the disconnecting of an agent that is not known: it
// comes back every few seconds, and is told of once.
func (b *Broker) once(identity string) func(string, ...any) {
	if _, again := b.told.LoadOrStore(identity, nil); again {
		return b.logger.Debug
	}
	return b.logger.Warn
}

// cutOffUnknown disconnects the agents that are connected and not known. Pages are
// read from the last one on, as clients that leave move later ones forward; those
// that come are judged as they do.
func (b *Broker) cutOffUnknown(ctx context.Context) error {
	if b.known.Load() == nil {
		return nil
	}
	total := 0
	page := func(offset, limit int) map[string]any {
		return map[string]any{"acc": b.account, "auth": true, "offset": offset, "limit": limit}
	}
	err := b.askForClients(page(0, 1), func(answer clientsAnswer) error {
		total = max(total, answer.Data.Total)
		return nil
	})
	for offset := total / clientPage * clientPage; err == nil && offset >= 0 && ctx.Err() == nil; offset -= clientPage {
		err = b.askForClients(page(offset, clientPage), b.kickUnknown)
	}
	return err
}

func (b *Broker) kickUnknown(answer clientsAnswer) error {
	for _, client := range answer.Data.Connections {
		if !b.isUnknown(client.JWT) {
			continue
		}
		b.logger.Warn("disconnecting a client", "reason", "it is no known host's", "cid", client.ID)
		if err := b.kick(answer.Server.ID, client.ID); err != nil {
			return err
		}
	}
	return nil
}
