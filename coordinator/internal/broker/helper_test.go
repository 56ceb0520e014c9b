package broker_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func pubAck(t testing.TB, reply *nats.Msg) jetstream.PubAck {
	t.Helper()
	var answer struct {
		jetstream.PubAck
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		t.Fatalf("answer %q: %v", reply.Data, err)
	}
	if answer.Error != nil {
		t.Fatalf("the stream refused: %s", answer.Error)
	}
	return answer.PubAck
}
