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
		ID  uint64 `json:"id"`
		JWT string `json:"jwt"` // proven at connect; unlike name and user, which a client can choose
	} `json:"client"`
	Reason string `json:"reason"` // of a disconnect
}

// clientID names one connection of the bus.
type clientID struct {
	server string
	id     uint64
}

// clients are the agents' connections, and how many each host has.
type clients struct {
	host  map[clientID]string
	count map[string]int
}

func (c clients) add(client clientID, host string) {
	if _, known := c.host[client]; !known {
		c.host[client] = host
		c.count[host]++
	}
}

// remove returns how many connections the client's host has left, which is
// given for a client that connected before anybody listened.
func (c clients) remove(client clientID, host string) (left int) {
	if owner, known := c.host[client]; known {
		host = owner
		delete(c.host, client)
		if c.count[host]--; c.count[host] == 0 {
			delete(c.count, host)
		}
	}
	return c.count[host]
}

// watchPresence tells which hosts come and go. An agent that connects again may
// be there before the bus has noticed that its old connection is dead, so a
// host is gone only with its last connection.
func (r *Receiver) watchPresence(ctx context.Context, notices <-chan *nats.Msg) {
	clients := clients{host: map[clientID]string{}, count: map[string]int{}}
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-notices:
			r.takeNotice(message, clients)
		}
	}
}

func (r *Receiver) takeNotice(message *nats.Msg, clients clients) {
	var notice notice
	if err := json.Unmarshal(message.Data, &notice); err != nil {
		r.logger.Warn("presence notice dropped: malformed", "err", err)
		return
	}
	publicKey, err := bus.TokenSubject(notice.Client.JWT)
	if err != nil {
		r.logger.Warn("presence notice dropped: it names no identity", "err", err)
		return
	}
	host, known := r.HostByKey(publicKey)
	client := clientID{notice.Server.ID, notice.Client.ID}
	switch {
	case message.Subject != bus.Connected(r.Account):
		left := clients.remove(client, host)
		if !known || left > 0 { // not known: its host was removed
			return
		}
		r.logger.Debug("agent disconnected", "host", host, "reason", notice.Reason)
		r.Sessions.HostDisconnected(host)
	case known:
		clients.add(client, host)
		r.logger.Debug("agent connected", "host", host)
		r.Sessions.HostConnected(host)
	}
}
