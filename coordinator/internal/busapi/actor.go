package busapi

import (
	"encoding/json"

	"github.com/nats-io/nats.go/micro"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// whoAsks is the header in which a server tells who sent a request that comes
// from another account.
const whoAsks = "Nats-Request-Info"

// client is the part of that header that matters here.
type client struct {
	Host string `json:"host"`
	JWT  string `json:"jwt"`
}

// actor returns who sent a request. A server removes such a header that came
// from the client, but a client that writes its headers with line ends that the
// server does not know can hide the server's and have its own read. Therefore
// name and role are believed only because of the signature of the credentials
// that the header carries, which only their owner and the servers have seen.
func (s *Service) actor(headers micro.Headers) (fleet.Actor, error) {
	unknown := job.Fail(job.NotAuthenticated, "the bus does not say who sent the request").
		WithHint("connect as a user of the account OPERATORS, for example with credentials from borgfleet nats-creds")
	values := headers.Values(whoAsks)
	if len(values) != 1 {
		return fleet.Actor{}, unknown
	}
	var asking client
	if err := json.Unmarshal([]byte(values[0]), &asking); err != nil {
		return fleet.Actor{}, unknown
	}
	name, role, known := s.Identities.Operator(asking.JWT)
	if !known {
		return fleet.Actor{}, unknown
	}
	return fleet.Actor{Name: fleet.Person(name), Role: role, From: "bus " + asking.Host}, nil
}
