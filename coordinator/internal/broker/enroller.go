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

// clientNotice is the part that matters here of the system account's notice of
// a client that has come or gone.
type clientNotice struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Client struct {
		ID   uint64 `json:"id"`
		User string `json:"user"` // its public key
	} `json:"client"`
}

// boundEnrollers disconnects the longest connected of the clients without
// credentials when there are too many.
func (b *Broker) boundEnrollers() error {
	var connected []uint64 // the oldest first; those that have gone are found out when it is their turn
	_, err := b.System().Subscribe(bus.Connected(b.account), func(message *nats.Msg) {
		var notice clientNotice
		if err := json.Unmarshal(message.Data, &notice); err != nil {
			b.logger.Warn("notice of a client dropped: malformed", "err", err)
			return
		}
		if notice.Client.User != b.accounts.enroller {
			return
		}
		connected = append(connected, notice.Client.ID)
		if len(connected) > maxEnrollers {
			_ = b.server.DisconnectClientByID(connected[0]) // it may have gone by itself
			connected = connected[1:]
		}
	})
	if err != nil {
		return fmt.Errorf("watch clients without credentials: %w", err)
	}
	return nil
}
