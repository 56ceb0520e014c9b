package agentlink

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Sessions is told what hosts say of themselves. Its methods are called
// concurrently, but for one host in order. All but HandleHello must be quick.
type Sessions interface {
	// HandleHello settles both sides. After an error the host gets no answer,
	// and says hello again.
	HandleHello(ctx context.Context, hello bus.Hello) (bus.HelloReply, error)
	// HandleProgress takes live progress, which may be lost.
	HandleProgress(host string, progress bus.Progress)
	// HostConnected and HostDisconnected are told by the bus itself, at once:
	// the former of each connection, the latter when a host has none left. Both
	// may be repeated, and either may be missed.
	HostConnected(host string)
	HostDisconnected(host string)
}

// Ingest stores events.
type Ingest interface {
	// StreamPosition is the place in the stream up to which events are stored.
	StreamPosition() uint64
	// HandleEvents stores events, in the order of the stream, together with the
	// place of the last one, and returns when they are on disk. Events may come
	// again; those known already change nothing. After an error the same batch
	// is given again.
	HandleEvents(ctx context.Context, batch []bus.StreamEvent) error
	// CaughtUp is told when everything is stored that was in the stream when
	// reading began. It may be repeated.
	CaughtUp()
}

// Stream is where agents' events are read from.
type Stream interface {
	// Consumer delivers in order what comes after a place in the stream.
	Consumer(ctx context.Context, after uint64) (jetstream.Consumer, error)
}

// Options configures a [Receiver].
type Options struct {
	Agents   *nats.Conn // in the account of the agents
	System   *nats.Conn // in the system account; nil: presence by hellos only
	Account  string     // public key of the account of the agents; needed with System
	Stream   Stream
	Sessions Sessions
	Ingest   Ingest
	// HostByKey returns the host whose agent has this public key. It is called
	// from one goroutine and must be quick. Needed with System.
	HostByKey func(publicKey string) (host string, known bool)
	Logger    hclog.Logger
}

// Receiver takes in what agents say.
type Receiver struct {
	Options
	logger hclog.Logger
}

// NewReceiver returns a receiver; nothing is received before Run.
func NewReceiver(options Options) *Receiver {
	return &Receiver{Options: options, logger: options.Logger.Named("agentlink")}
}

const (
	helloWorkers = 8
	helloQueue   = 64  // hellos that wait for one worker
	hostHellos   = 4   // of them, of one host; it says hello again if it must
	noticeQueue  = 256 // notices of the system account
)

// Run receives until ctx ends. It returns early only when it cannot subscribe.
func (r *Receiver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	stop, err := r.subscribe(ctx, &workers)
	defer stop()
	if err != nil {
		return err
	}
	workers.Go(func() { r.ingest(ctx) })
	<-ctx.Done()
	return nil
}

// subscribe starts everything but the ingest of events. stop ends the
// subscriptions, also after an error.
func (r *Receiver) subscribe(ctx context.Context, workers *sync.WaitGroup) (stop func(), err error) {
	var subscriptions []*nats.Subscription
	stop = func() {
		for _, subscription := range subscriptions {
			_ = subscription.Unsubscribe() // the connection may be closed already
		}
	}
	add := func(subscription *nats.Subscription, err error) error {
		if err == nil {
			subscriptions = append(subscriptions, subscription)
		}
		return err
	}
	if r.System != nil {
		notices := make(chan *nats.Msg, noticeQueue)
		workers.Go(func() { r.watchPresence(ctx, notices) })
		for _, subject := range []string{bus.Connected(r.Account), bus.Disconnected(r.Account)} {
			if err := add(r.System.ChanSubscribe(subject, notices)); err != nil {
				return stop, fmt.Errorf("subscribe to presence of agents: %w", err)
			}
		}
	}
	if err := add(r.Agents.Subscribe(bus.AllProgress, r.takeProgress)); err != nil {
		return stop, fmt.Errorf("subscribe to progress: %w", err)
	}
	if err := add(r.Agents.Subscribe(bus.AllHellos, r.helloQueue(ctx, workers))); err != nil {
		return stop, fmt.Errorf("subscribe to hellos: %w", err)
	}
	return stop, nil
}

// helloQueue starts the workers for hellos and returns what hands them over.
// All hellos of one host go to the same worker, so that they stay in order.
// Those of a host that does not wait for its answers are dropped: all hosts
// come in by one queue, and no one of them may fill it.
func (r *Receiver) helloQueue(ctx context.Context, workers *sync.WaitGroup) nats.MsgHandler {
	var queues [helloWorkers]chan *nats.Msg
	waiting := crowd{count: map[string]int{}}
	for i := range queues {
		queues[i] = make(chan *nats.Msg, helloQueue)
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case message := <-queues[i]:
					r.takeHello(ctx, message)
					waiting.leave(message.Subject)
				}
			}
		})
	}
	return func(message *nats.Msg) {
		if !waiting.enter(message.Subject) {
			return
		}
		hash := fnv.New32a()
		hash.Write([]byte(message.Subject))
		select {
		case queues[hash.Sum32()%helloWorkers] <- message:
		case <-ctx.Done():
		}
	}
}

// crowd is how many hellos wait on each subject.
type crowd struct {
	mu    sync.Mutex
	count map[string]int
}

// enter reports whether one more may wait.
func (c *crowd) enter(subject string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[subject] == hostHellos {
		return false
	}
	c.count[subject]++
	return true
}

func (c *crowd) leave(subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[subject]--; c.count[subject] == 0 {
		delete(c.count, subject)
	}
}

// takeHello answers one hello. A hello whose reply would not go to the host
// itself is an attempt to have us send somewhere else.
func (r *Receiver) takeHello(ctx context.Context, message *nats.Msg) {
	host, err := bus.HostOf(message.Subject)
	if err != nil {
		r.logger.Warn("hello dropped", "err", err)
		return
	}
	logger := r.logger.With("host", host)
	if !bus.OwnInbox(host, message.Reply) {
		logger.Warn("hello dropped: its reply subject is not the host's own inbox", "reply", message.Reply)
		return
	}
	var hello bus.Hello
	if err := json.Unmarshal(message.Data, &hello); err != nil {
		logger.Warn("hello dropped: malformed", "err", err)
		return
	}
	if hello.Host != host {
		logger.Warn("hello dropped: it is for another host", "claimed", hello.Host)
		return
	}
	if hello.Instance != "" && bus.CheckInstance(hello.Instance) != nil { // empty: of an agent of 0.2
		logger.Warn("hello dropped: malformed instance")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, bus.RequestTimeout)
	defer cancel()
	reply, err := r.Sessions.HandleHello(ctx, hello)
	if err != nil {
		logger.Warn("hello not answered", "err", err)
		return
	}
	if err := respond(message, reply); err != nil {
		logger.Warn("answering hello", "err", err)
	}
}

func respond(message *nats.Msg, reply any) error {
	data, err := json.Marshal(reply)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return message.Respond(data)
}

// takeProgress hands live progress over.
func (r *Receiver) takeProgress(message *nats.Msg) {
	host, err := bus.HostOf(message.Subject)
	if err != nil {
		r.logger.Warn("progress dropped", "err", err)
		return
	}
	var progress bus.Progress
	if err := json.Unmarshal(message.Data, &progress); err != nil {
		r.logger.Warn("progress dropped: malformed", "host", host, "err", err)
		return
	}
	if message.Subject != bus.ProgressSubject(host, progress.Job) {
		r.logger.Warn("progress dropped: it is for another job", "host", host, "job", progress.Job)
		return
	}
	r.Sessions.HandleProgress(host, progress)
}
