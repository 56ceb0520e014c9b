// Package busapi serves operators over the bus: a NATS micro service named
// borgfleet for requests, and a publisher of what changes. It translates and
// does nothing else.
//
// It works on a connection that has no right on any stream. Requests come from
// another account, so the server chooses their reply subject and says who asks;
// a request that did not come that way is not answered.
package busapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Jobs is the job service. Errors are *job.Failure.
type Jobs interface {
	Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error)
	Job(ctx context.Context, id job.ID) (job.Job, error)
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
}

// Overview reads what is not one job. Errors are *job.Failure.
type Overview interface {
	// Log returns a part of a job's log that fits a message.
	Log(ctx context.Context, id job.ID, after int) (fleet.JobLog, error)
	Status(ctx context.Context) (fleet.Status, error)
}

// Inventory reads hosts and repositories. Errors are *job.Failure.
type Inventory interface {
	Host(ctx context.Context, name string) (fleet.HostView, error)
	Hosts(ctx context.Context) ([]fleet.HostView, error)
	Repository(ctx context.Context, name string) (fleet.RepositoryView, error)
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
}

// Identities knows operators.
type Identities interface {
	// Operator returns who a JWT stands for, if it was signed for an operator
	// and still counts.
	Operator(token string) (name string, role bus.Role, known bool)
}

// Options configures a [Service].
type Options struct {
	Connection *nats.Conn // in the account of the service, without rights on streams
	Identities Identities
	Jobs       Jobs
	Overview   Overview
	Inventory  Inventory
	Archives   Archives
	Catalog    Catalog
	Plans      Plans // nil: there are none
	Feed       *feed.Feed
	Logger     hclog.Logger
}

// Service serves operators over the bus.
type Service struct {
	Options
	logger hclog.Logger
	work   chan func()
	failed map[string]*atomic.Int64 // refused requests by endpoint
	runs   map[string][]uint64      // marks of the newest runs of each plan, as they were published; only publish touches it
}

// Bounds of the service.
const (
	maxRequestBytes = 512 << 10
	workers         = 16
	waiting         = 256 // requests that wait for a worker
)

// serviceName is the contract's; queueGroup spreads requests over coordinators.
const (
	serviceName = "borgfleet"
	queueGroup  = "coordinators"
)

// New returns a service; nothing is served before Run.
func New(options Options) *Service {
	s := &Service{
		Options: options, logger: options.Logger.Named("busapi"),
		work: make(chan func(), waiting), failed: map[string]*atomic.Int64{}, runs: map[string][]uint64{},
	}
	for _, e := range s.endpoints() {
		s.failed[e.name] = &atomic.Int64{}
	}
	return s
}

// Run serves requests and publishes changes until ctx ends. Requests that were
// taken are answered before it returns.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	stopped := make(chan struct{})
	for range workers {
		running.Go(func() { s.workUntil(stopped) })
	}
	defer running.Wait()
	defer close(stopped)
	service, err := s.register(ctx)
	if err != nil {
		return err
	}
	s.publish(ctx)
	if err := service.Stop(); err != nil && !s.Connection.IsClosed() {
		s.logger.Warn("stopping the micro service", "err", err)
	}
	return nil
}

// workUntil runs what waits, until stopped is closed and nothing waits any more.
func (s *Service) workUntil(stopped <-chan struct{}) {
	for {
		select {
		case task := <-s.work:
			task()
		case <-stopped:
			select {
			case task := <-s.work:
				task()
			default:
				return
			}
		}
	}
}

func (s *Service) register(ctx context.Context) (micro.Service, error) {
	info := build.Current()
	service, err := micro.AddService(s.Connection, micro.Config{
		Name:         serviceName,
		Version:      semanticVersion(info.Version),
		Description:  "backups with borg: jobs, plans, hosts, repositories, archives",
		Metadata:     map[string]string{"version": info.Version, "commit": info.Commit},
		QueueGroup:   queueGroup,
		StatsHandler: func(e *micro.Endpoint) any { return map[string]int64{"refused": s.failed[e.Name].Load()} },
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) { s.logger.Warn("micro service", "err", err) },
	})
	if err != nil {
		return nil, fmt.Errorf("add micro service: %w", err)
	}
	for _, e := range s.endpoints() {
		if err := s.add(ctx, service, e); err != nil {
			return nil, errors.Join(fmt.Errorf("add endpoint %s: %w", e.subject, err), service.Stop())
		}
	}
	return service, nil
}

func (s *Service) add(ctx context.Context, service micro.Service, e endpoint) error {
	metadata, err := e.metadata()
	if err != nil {
		return err
	}
	handler := micro.HandlerFunc(func(request micro.Request) { s.take(ctx, e, request) })
	return service.AddEndpoint(e.name, handler, micro.WithEndpointSubject(e.subject), micro.WithEndpointMetadata(metadata))
}

// take hands a request to a worker, so that one that is slow does not hold up
// the others of its endpoint.
func (s *Service) take(ctx context.Context, e endpoint, request micro.Request) {
	reply, data := request.Reply(), request.Data()
	if !bus.FromOperator(reply) {
		s.logger.Warn("request dropped: it wants no answer, or does not come from an operator; use nats req, not nats pub", "subject", e.subject, "reply", reply)
		return
	}
	actor, err := s.actor(request.Headers())
	if err != nil {
		s.respond(e, reply, nil, err)
		return
	}
	ctx = fleet.WithActor(context.WithoutCancel(ctx), actor) // what was taken is brought to its end
	task := func() {
		answer, err := s.answer(ctx, e, data)
		s.respond(e, reply, answer, err)
	}
	select {
	case s.work <- task:
	default:
		s.respond(e, reply, nil, job.Fail(job.Unavailable, "too many requests wait").WithHint("try again in a moment"))
	}
}

// answer runs one request and encodes its answer.
func (s *Service) answer(ctx context.Context, e endpoint, data []byte) ([]byte, error) {
	if len(data) > maxRequestBytes {
		return nil, job.Fail(job.TooLarge, "the request has %d bytes; at most %d are allowed", len(data), maxRequestBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	defer cancel()
	answer, err := e.handle(ctx, data)
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	if len(encoded) > s.maxReply() {
		return nil, job.Fail(job.TooLarge, "the answer has %d bytes, more than a message can carry", len(encoded)).
			WithHint("ask for less with limit, or use the HTTP API")
	}
	return encoded, nil
}

// maxReply leaves room for headers.
func (s *Service) maxReply() int { return int(s.Connection.MaxPayload()) - 4<<10 }

// respond answers, also with a failure: in the service headers and, for
// clients that do not show those, in the body.
func (s *Service) respond(e endpoint, reply string, answer []byte, err error) {
	message := nats.NewMsg(reply)
	message.Data = answer
	if err != nil {
		failure := job.AsFailure(err)
		s.failed[e.name].Add(1)
		if failure.Code == job.Internal {
			s.logger.Error("request failed", "subject", e.subject, "err", err)
		}
		message.Header.Set(micro.ErrorHeader, oneLine(failure.Message))
		message.Header.Set(micro.ErrorCodeHeader, fmt.Sprint(failure.Code.HTTPStatus()))
		if message.Data, err = json.Marshal(failure); err != nil {
			s.logger.Error("encode failure", "subject", e.subject, "err", err)
			return
		}
	}
	if err := s.Connection.PublishMsg(message); err != nil {
		s.logger.Warn("answering a request", "subject", e.subject, "err", err)
	}
}

// oneLine makes text fit for a header.
func oneLine(text string) string {
	const enough = 1024
	line := strings.Join(strings.Fields(text), " ")
	return line[:min(len(line), enough)]
}

var semantic = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)`)

// semanticVersion returns the part of a version that a micro service may have.
func semanticVersion(version string) string {
	if core := semantic.FindString(strings.TrimPrefix(version, "v")); core != "" {
		return core
	}
	return "0.0.0"
}
