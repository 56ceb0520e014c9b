package broker

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// maxEnrollers is how many clients without credentials may be connected at a
// time. Enrolment takes them a few milliseconds; whoever stays makes room for
// newer ones, so that a stranger cannot fill the server up.
const maxEnrollers = 64

// connectNotice is the part that matters here of the system account's notice of
// a client that has connected.
type connectNotice struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID   uint64 `json:"id"`
		User string `json:"user"` // a client can choose it
		JWT  string `json:"jwt"`  // what it has proven
	} `json:"client"`
}

// watcher disconnects clients of an account that must not be there although the
// server let them in.
type watcher struct {
	broker    *Broker
	account   string
	enrollers []connectNotice // the oldest first; those that have gone are found out when it is their turn
}

// watch begins watching, where the system account is ours or lent.
func (b *Broker) watch() error {
	if b.System() == nil {
		return nil
	}
	for _, account := range b.watched() {
		w := &watcher{broker: b, account: account}
		if _, err := b.System().Subscribe(bus.Connected(b.accountKey(account)), w.take); err != nil {
			return fmt.Errorf("watch %s that connect: %w", account, err)
		}
	}
	return nil
}

// take judges one client that has connected.
func (w *watcher) take(message *nats.Msg) {
	var notice connectNotice
	if err := json.Unmarshal(message.Data, &notice); err != nil {
		w.broker.logger.Warn("notice of a client dropped: malformed", "err", err)
		return
	}
	identity, err := bus.TokenSubject(notice.Client.JWT)
	switch {
	case err != nil || identity != notice.Client.User:
		w.kick(notice, w.broker.logger.Warn, "it gives itself for another")
	case identity == w.broker.enroller:
		w.enrollers = append(w.enrollers, notice)
		if len(w.enrollers) > maxEnrollers {
			w.kick(w.enrollers[0], w.broker.logger.Debug, "too many without credentials are connected")
			w.enrollers = w.enrollers[1:]
		}
	case w.broker.server == nil && w.broker.isRevoked(w.account, identity):
		w.kick(notice, w.broker.logger.Warn, "it was revoked")
	case w.broker.isUnknown(notice.Client.JWT):
		w.kick(notice, w.broker.once(identity), "it is no known host's")
	}
}

// kick disconnects a client, and logs why at a level that suits the reason.
func (w *watcher) kick(notice connectNotice, log func(string, ...any), why string) {
	log("disconnecting a client", "user", notice.Client.User, "reason", why)
	if err := w.broker.kick(notice.Server.ID, notice.Client.ID); err != nil {
		w.broker.logger.Error("disconnect a client", "user", notice.Client.User, "err", err)
	}
}
