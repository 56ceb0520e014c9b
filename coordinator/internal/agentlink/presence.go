package agentlink

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// notice is what we read of a notice of the system account.
type notice struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID   uint64 `json:"id"`
		User string `json:"user"` // public key, proven at connect; unlike the name, which a client chooses
	} `json:"client"`
	Reason string `json:"reason"` // of a disconnect
}

// clientID names one connection of the bus.
type clientID struct {
	server string
	id     uint64
}

// watchPresence tells which hosts come and go. An agent that connects again may
// be there before the bus has noticed that its old connection is dead, so a
// host is gone only with its last connection.
func (r *Receiver) watchPresence(ctx context.Context, notices <-chan *nats.Msg) {
	clients := map[string]map[clientID]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-notices:
			r.takeNotice(message, clients)
		}
	}
}

func (r *Receiver) takeNotice(message *nats.Msg, clients map[string]map[clientID]bool) {
	var notice notice
	if err := json.Unmarshal(message.Data, &notice); err != nil {
		r.logger.Warn("presence notice dropped: malformed", "err", err)
		return
	}
	host, known := r.HostByKey(notice.Client.User)
	if !known {
		return
	}
	client := clientID{notice.Server.ID, notice.Client.ID}
	if message.Subject == bus.Connected(r.Account) {
		if clients[host] == nil {
			clients[host] = map[clientID]bool{}
		}
		clients[host][client] = true
		r.logger.Debug("agent connected", "host", host)
		r.Sessions.HostConnected(host)
		return
	}
	delete(clients[host], client)
	if len(clients[host]) > 0 {
		return
	}
	delete(clients, host)
	r.logger.Debug("agent disconnected", "host", host, "reason", notice.Reason)
	r.Sessions.HostDisconnected(host)
}
