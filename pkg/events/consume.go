package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullExpiry and pullHeartbeat: a pull request is renewed every pullExpiry; a
	// server that falls silent is noticed after two heartbeats.
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 3 * time.Second
	// afterGrace is how long a handler whose context is gone may take to notice.
	afterGrace = 2 * time.Second
	// gaugeEvery is half of Prometheus's usual interval between two scrapes.
	gaugeEvery = 15 * time.Second
	// drainWait bounds the wait for the server's word that it sends no more.
	drainWait = 2 * time.Second
	// teamSize is from how many workers on they share pull requests, and how many of them.
	teamSize = 32
	// putOffPerWorker is how many events a worker may leave behind that have something put off (Afterwards):
	// each keeps a group in memory, which may be a megabyte.
	putOffPerWorker = 16
)

// Handler does what a fact asks for, and returns what is to be said about it.
// It gets every fact of its consumer's subjects, and returns nil, nil for those
// that are not for it. It may see a fact more than once, and two facts of one
// group at the same time.
//
// The facts are said, with the handled one as their cause, before the event is
// acknowledged; they are not said where there is an error, which says what
// happens next: Superseded (acknowledged), Terminal (dead letter), RetryAfter
// (again after a while), any other error or a panic (again after a backoff, and a
// dead letter after Options.MaxAttempts).
//
// The context ends after Options.HandleTimeout, and when a shutdown does not
// wait any longer.
type Handler func(ctx context.Context, f Fact) ([]Fact, error)

// errStopping is the cause of a handler's context at the end of the grace period.
var errStopping = errors.New("the service is stopping")

// Consume hands the events of a consumer of the topology ("stager", "compiler",
// "executor", "intake") to h, workers of them at a time. Replicas share a
// consumer. No event is fetched before a worker is free for it; what a handler has put off
// (Afterwards) needs none.
//
// It blocks until ctx is done, then takes no more events, finishes those in hand
// within Options.Grace, and gives back the rest at once. The error says that
// the consumer is not in the table, or that handlers had to be left behind.
// Trouble with the server is waited out.
func (b *Bus) Consume(ctx context.Context, consumer string, workers int, h Handler) error {
	spec, ok := b.opts.Topology.consumer(consumer)
	if !ok {
		return fmt.Errorf("consumer %q is not in the topology", consumer)
	}
	if workers < 1 {
		return fmt.Errorf("consuming as %s: %d workers, want 1 or more", consumer, workers)
	}
	// In-hand work outlives ctx, by the grace period at most.
	work, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)

	var wg sync.WaitGroup
	putOff := make(chan struct{}, putOffPerWorker*workers)
	for _, size := range teams(workers) {
		t := team{bus: b, spec: spec, batch: max(1, size/2), free: make(chan struct{}, size), do: make(chan func() func()), putOff: putOff}
		wg.Go(func() { t.run(ctx, work, h) })
	}
	wg.Go(func() { b.gauge(ctx, consumer) })
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	<-ctx.Done()
	select {
	case <-done:
		return nil
	case <-time.After(b.opts.Grace):
	}
	abandon(errStopping)
	select {
	case <-done:
		return nil
	case <-time.After(afterGrace + settleTimeout):
		return fmt.Errorf("consuming as %s: handlers did not return within %s and after", consumer, b.opts.Grace)
	}
}

// gauge asks now and then how far the consumer is, for the metrics, until ctx is done. A
// server that is away is the workers' to complain of.
func (b *Bus) gauge(ctx context.Context, consumer string) {
	for {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		c, err := b.js.Consumer(try, StreamEvents, consumer) // this asks for its state
		cancel()
		if err == nil {
			b.metrics.observeConsumer(c.CachedInfo())
		}
		if !pause(ctx, gaugeEvery) {
			return
		}
	}
}

// teams are how many workers share a pull request: each has its own, unless there are so
// many that the requests would be a good part of what the server has to do.
func teams(workers int) (sizes []int) {
	size := 1
	if workers >= teamSize {
		size = teamSize
	}
	for ; workers > 0; workers -= size {
		sizes = append(sizes, min(size, workers))
	}
	return sizes
}

// team is workers that share a pull request.
type team struct {
	bus  *Bus
	spec jetstream.ConsumerConfig
	// batch is how many events are asked for at a time.
	batch int
	// free has one for each worker that is free, and do gives it something to do. What that leaves to be
	// done needs no worker.
	free chan struct{}
	do   chan func() (rest func())
	// putOff has one for each event of the consumer of which a rest is being done.
	putOff chan struct{}
}

// run handles events until ctx is done, and what they have put off. It finds its consumer again when that was
// lost, and makes it where this Bus had made it.
func (t team) run(ctx, work context.Context, h Handler) {
	b, spec := t.bus, t.spec
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(t.do)
	for range cap(t.free) {
		t.free <- struct{}{}
		wg.Go(func() {
			for handle := range t.do {
				if rest := handle(); rest != nil {
					t.aside(&wg, rest)
				}
				t.free <- struct{}{}
			}
		})
	}
	for attempt := uint64(1); ctx.Err() == nil; attempt++ {
		handled, err := t.pull(ctx, work, h)
		if ctx.Err() != nil {
			return
		}
		if handled {
			attempt = 1
		}
		b.log.WarnContext(ctx, "waiting for events", "consumer", spec.Durable, "attempt", attempt, "error", err)
		if !pause(ctx, min(time.Duration(attempt)*200*time.Millisecond, 5*time.Second)) {
			return
		}
		if lost(err) && b.ensured.Load() {
			if err := b.EnsureTopology(ctx); err != nil && ctx.Err() == nil {
				b.log.ErrorContext(ctx, "the topology cannot be made again", "error", err)
			}
		}
	}
}

// aside has a rest done without the worker, or by the worker where there are too many already.
func (t team) aside(wg *sync.WaitGroup, rest func()) {
	select {
	case t.putOff <- struct{}{}:
		wg.Go(func() {
			defer func() { <-t.putOff }()
			rest()
		})
	default:
		rest()
	}
}

// pull asks for events until ctx is done or the consumer is lost, each time for a batch
// when that many workers are free.
func (t team) pull(ctx, work context.Context, h Handler) (handled bool, err error) {
	try, cancel := context.WithTimeout(ctx, requestTimeout)
	c, err := t.bus.js.Consumer(try, StreamEvents, t.spec.Durable)
	cancel()
	if err != nil {
		return false, fmt.Errorf("looking up the consumer: %w", err)
	}
	// Not more than there are workers for: an event that lay in a buffer would have nobody
	// to renew it, and would be handed to somebody else while it waits.
	iter, err := c.Messages(jetstream.PullMaxMessages(t.batch), jetstream.PullThresholdMessages(1), jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return false, fmt.Errorf("asking for events: %w", err)
	}
	defer iter.Stop()
	s := settler{bus: t.bus, consumer: t.spec.Durable, ackWait: c.CachedInfo().Config.AckWait, handler: h}
	held := 0
	defer func() { t.release(held) }()
	for ctx.Err() == nil {
		if held == 0 {
			held = t.hold(ctx)
			continue
		}
		msg, err := iter.Next(jetstream.NextContext(ctx))
		if err != nil && ctx.Err() == nil {
			return handled, fmt.Errorf("waiting for the next event: %w", err)
		}
		if err == nil {
			handled = true
			held--
			t.do <- func() func() { return s.deliver(work, msg) }
		}
	}
	// What the server has sent already goes back at once, unhandled.
	iter.Drain()
	for {
		msg, err := iter.Next(jetstream.NextMaxWait(drainWait))
		if err != nil {
			return handled, nil
		}
		s.giveBack(work, msg)
	}
}

// hold keeps the workers of a batch free for what is asked for; none where ctx is done before.
func (t team) hold(ctx context.Context) int {
	for n := range t.batch {
		select {
		case <-t.free:
		case <-ctx.Done():
			t.release(n)
			return 0
		}
	}
	return t.batch
}

func (t team) release(n int) {
	for range n {
		t.free <- struct{}{}
	}
}
