package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const host = "web1"

// TestMain lets the test binary be the agent, when it is called like it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"run", "enroll", "rotate", "supervise", "status", "doctor", "version", "completion"}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// fleet is the world around one agent: a bus, and a coordinator that stores in
// memory what the stream brings.
type fleet struct {
	t      *testing.T
	root   string
	url    string
	server *server.Server
	conn   *nats.Conn
	signer nkeys.KeyPair
	agent  *exec.Cmd
	log    *output
	binary string // the agent; default: this very binary
	config string // agent.yaml

	mu     sync.Mutex
	hello  bus.Hello
	events map[job.ID][]bus.Event
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, root: t.TempDir(), events: map[job.ID][]bus.Event{}}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: filepath.Join(f.root, "bus"), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience.Most) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	f.server, f.url = s, s.ClientURL()
	if f.conn, err = nats.Connect(f.url, nats.CustomInboxPrefix(bus.PrivateInbox(bus.AgentsConnection))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.conn.Close)
	patience.Until(t, "the coordinator connects", f.conn.IsConnected)
	f.writeKeys()
	f.listen()
	return f
}

// writeKeys writes what an enrolled agent has.
func (f *fleet) writeKeys() {
	f.t.Helper()
	user, err := nkeys.CreateUser()
	if err == nil {
		f.signer, err = nkeys.CreateAccount()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		f.t.Fatal(err)
	}
	own, err := user.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	public, err := f.signer.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(own).Encode(f.signer)
	if err != nil {
		f.t.Fatal(err)
	}
	credentials, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write("keys/agent.creds", string(credentials), 0o600)
	f.write("keys/signer.pub", public+"\n", 0o644)
}

func (f *fleet) path(name string) string { return filepath.Join(f.root, name) }

func (f *fleet) write(name, text string, mode os.FileMode) {
	f.t.Helper()
	if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.path(name), []byte(text), mode); err != nil {
		f.t.Fatal(err)
	}
}

// listen makes the stream, stores its events, and answers hellos.
func (f *fleet) listen() {
	f.t.Helper()
	js, err := jetstream.New(f.conn)
	if err != nil {
		f.t.Fatal(err)
	}
	stream, err := js.CreateStream(f.t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{bus.EventSubject("*", "*")}})
	if err != nil {
		f.t.Fatal(err)
	}
	consumer, err := stream.CreateOrUpdateConsumer(f.t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		f.t.Fatal(err)
	}
	consuming, err := consumer.Consume(f.store)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(consuming.Stop)
	if _, err := f.conn.Subscribe(bus.HelloSubject(host), f.answer); err != nil {
		f.t.Fatal(err)
	}
	if err := f.conn.Flush(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) store(msg jetstream.Msg) {
	var event bus.Event
	if err := json.Unmarshal(msg.Data(), &event); err != nil {
		f.t.Errorf("event: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.events[event.Job]; len(known) == 0 || known[len(known)-1].Seq < event.Seq {
		f.events[event.Job] = append(known, event)
	}
	_ = msg.Ack()
}

func (f *fleet) answer(msg *nats.Msg) {
	var hello bus.Hello
	if err := json.Unmarshal(msg.Data, &hello); err != nil {
		f.t.Errorf("hello: %v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hello = hello
	reply := bus.HelloReply{At: time.Now()}
	for _, said := range hello.Attempts {
		verdict := bus.Verdict{Job: said.Job, Attempt: said.Attempt, Action: bus.Keep}
		if known := f.events[said.Job]; len(known) > 0 {
			verdict.Stored = known[len(known)-1].Seq
		}
		if said.Finished && verdict.Stored >= said.LastSeq {
			verdict.Action = bus.Forget
		}
		reply.Verdicts = append(reply.Verdicts, verdict)
	}
	data, err := json.Marshal(reply)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		f.t.Errorf("answer hello: %v", err)
	}
}

func (f *fleet) lastHello() bus.Hello {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hello
}

// output is what a program has said so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts the agent and waits for its hello.
func (f *fleet) start() {
	f.t.Helper()
	args := []string{"run", "--host", host, "--data", f.path("data"), "--bus", f.url,
		"--credentials", f.path("keys/agent.creds"), "--log-level", "debug"}
	if f.config != "" {
		f.write("agent.yaml", f.config, 0o600)
		args = append(args, "--config", f.path("agent.yaml"))
	}
	begin := time.Now()
	f.agent, f.log = exec.Command(cmp.Or(f.binary, os.Args[0]), args...), &output{}
	f.agent.Stderr = f.log
	if err := f.agent.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { f.kill(syscall.SIGTERM) })
	patience.Until(f.t, "the agent says hello", func() bool { return f.lastHello().StartedAt.After(begin) })
}

// kill ends the agent with a signal, if it runs, and waits for it.
func (f *fleet) kill(signal syscall.Signal) {
	if f.agent == nil {
		return
	}
	_ = f.agent.Process.Signal(signal)
	err := f.agent.Wait()
	f.agent = nil
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && signal == syscall.SIGTERM {
		f.t.Errorf("the agent ended with %v:\n%s", exit, f.log)
	}
	if f.t.Failed() {
		f.t.Logf("the agent's log:\n%s", f.log)
	}
}

// order sends an order for one more job and returns its id and the answer.
func (f *fleet) order(kind job.Kind, spec job.Spec) (job.ID, bus.OrderReply) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience.Most)
	defer cancel()
	order := f.newOrder(kind, spec)
	reply, err := f.send(ctx, order)
	if err != nil {
		f.t.Fatalf("order: %v", err)
	}
	return order.Job, reply
}

// newOrder returns an order for one more job.
func (f *fleet) newOrder(kind job.Kind, spec job.Spec) bus.Order {
	f.t.Helper()
	now := time.Now()
	raw, err := json.Marshal(spec)
	if err != nil {
		f.t.Fatal(err)
	}
	sealed, err := secret.Seal(secret.FromString("correct horse"), secret.Purpose{Host: host, Repository: "main"}, f.lastHello().SealKey)
	if err != nil {
		f.t.Fatal(err)
	}
	order := bus.Order{
		Host: host, Job: job.NewID(now), Attempt: 1, IssuedAt: now, ExpiresAt: now.Add(bus.OrderLifetime), Kind: kind, Spec: raw,
		Repository: job.Repository{Name: "main", Location: f.path("repo"), Encryption: job.RepokeyBlake2}, Passphrase: &sealed,
	}
	if kind == job.Backup {
		order.Archive = "web1-" + string(order.Job)
	}
	return order
}

// send sends an order; the error says that there was no answer.
func (f *fleet) send(ctx context.Context, order bus.Order) (bus.OrderReply, error) {
	f.t.Helper()
	envelope, err := bus.SignOrder(order, f.signer)
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := json.Marshal(envelope)
	if err != nil {
		f.t.Fatal(err)
	}
	msg, err := f.conn.RequestWithContext(ctx, bus.OrderSubject(host), data)
	if err != nil {
		return bus.OrderReply{}, err
	}
	var reply bus.OrderReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		f.t.Fatal(err)
	}
	return reply, nil
}

// told returns the events of a job as the coordinator has stored them.
func (f *fleet) told(id job.ID) []bus.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events[id])
}

// end waits for a job's finished event and checks that it came once, last, and
// that the numbers have no gap.
func (f *fleet) end(id job.ID) bus.Event {
	f.t.Helper()
	patience.Until(f.t, "job "+string(id)+" ends", func() bool {
		events := f.told(id)
		return len(events) > 0 && events[len(events)-1].Type == job.EventFinished
	})
	events := f.told(id)
	for i, event := range events {
		if event.Seq != i+1 || event.Host != host || (event.Type == job.EventFinished) != (i == len(events)-1) {
			f.t.Errorf("event %d is number %d, %s of %s", i+1, event.Seq, event.Type, event.Host)
		}
	}
	return events[len(events)-1]
}

// run orders a job and returns its end, which must be good.
func (f *fleet) run(kind job.Kind, spec job.Spec) bus.Event {
	f.t.Helper()
	id, reply := f.order(kind, spec)
	if !reply.Accepted {
		f.t.Fatalf("%s: %+v", kind, reply)
	}
	end := f.end(id)
	if end.State != job.Succeeded || end.Result == nil {
		f.t.Fatalf("%s ended %s: %v", kind, end.State, end.Failure)
	}
	return end
}

// gated makes a wrapper around borg that waits, in a backup, until the gate is
// opened, and configures the agent to use it.
func (f *fleet) gated() (gate string) {
	f.t.Helper()
	gate = f.path("gate")
	f.write("gated-borg", fmt.Sprintf(`#!/bin/sh
if [ "$1" = create ]; then
  echo $$ >>%s.pids
  while ! [ -e %s ]; do sleep 0.02; done
fi
exec borg "$@"
`, gate, gate), 0o700)
	f.config = "borg: {binary: " + f.path("gated-borg") + "}\n"
	return gate
}

func (f *fleet) status() string {
	f.t.Helper()
	out, err := exec.Command(os.Args[0], "status", "--json", "--host", host, "--data", f.path("data")).Output()
	if err != nil {
		f.t.Fatalf("status: %v", err)
	}
	return string(out)
}
