package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const (
	// settleTimeout bounds what is done for an event after its handler and its
	// facts: bury, excuse, acknowledge.
	settleTimeout = 10 * time.Second
	// awayAtMost is the longest time between two visits of an event whose handler finds the
	// world away. Informers take as long until they try again.
	awayAtMost = 30 * time.Second
)

// settler handles the deliveries of one worker. It alone acknowledges.
type settler struct {
	bus      *Bus
	consumer string
	ackWait  time.Duration
	handler  Handler
}

// delivery is one message in hand.
type delivery struct {
	msg  jetstream.Msg
	meta *jetstream.MsgMetadata
	fact Fact
	// excused deliveries before this one: they were not failures.
	excused uint64
}

// deliver observes (visit), decides (next) and acts (settle). The context work
// outlives the asking for more, see Consume. It returns what is left to be done, for which no
// worker is needed: what the handler has put off, and then to settle; nil where that is done.
func (s settler) deliver(work context.Context, msg jetstream.Msg) (rest func()) {
	meta, err := msg.Metadata()
	if err != nil { // not from JetStream: nothing to settle
		s.bus.log.ErrorContext(work, "a message that is none of JetStream's", "subject", msg.Subject(), "error", err)
		return nil
	}
	started := time.Now()
	stop := s.heartbeat(msg)

	d := &delivery{msg: msg, meta: meta}
	var decodeErr error
	d.fact, decodeErr = decode(msg.Subject(), msg.Headers(), msg.Data())
	d.fact.Attempt, d.fact.Sequence = meta.NumDelivered, meta.Sequence.Stream

	ctx, span := s.bus.hear(work, s.consumer, d)
	ctx, later := putOff(ctx)
	facts, v := s.visit(ctx, d, decodeErr)
	v.stopping = v.err != nil && errors.Is(context.Cause(work), errStopping)
	if v.err == nil {
		v.err = s.say(context.WithoutCancel(ctx), d, facts)
	}
	finish := func() {
		defer stop()
		defer span.End()
		if v.err == nil {
			v.err = s.guard(context.WithoutCancel(ctx), later.run)
		}
		v.err = s.excuseAway(d, v.err)
		a := next(v, limits{attempts: s.bus.opts.MaxAttempts, wait: s.bus.opts.MaxWait, backoff: s.bus.opts.Backoff})
		a, err := s.settle(ctx, d, a, v.err)
		s.report(ctx, d, a, v.err, err, time.Since(started))
	}
	if v.err == nil && later.any() {
		return finish
	}
	finish()
	return nil
}

// excuseAway makes waiting out of an error that says that the world is out of reach.
func (s settler) excuseAway(d *delivery, err error) error {
	if _, waits := RetryDelay(err); err == nil || waits || IsSuperseded(err) || IsTerminal(err) {
		return err
	}
	if away := s.bus.opts.Away; away == nil || !away(err) {
		return err
	}
	return RetryAfter(min(s.bus.opts.Backoff(d.excused+1), awayAtMost), err)
}

// visit calls the handler, unless the event does not decode, or has not come
// back from its handler too often.
func (s settler) visit(ctx context.Context, d *delivery, decodeErr error) (facts []Fact, v visit) {
	v.age = time.Since(d.meta.Timestamp)
	if decodeErr != nil {
		v.err = decodeErr
		return nil, v
	}
	if d.meta.NumDelivered > 1 {
		var err error
		if d.excused, err = s.readWaits(ctx, d.meta); err != nil {
			// In doubt it waits: a letter is not written on a guess.
			v.err = RetryAfter(0, fmt.Errorf("reading how often the event waited: %w", err))
			return nil, v
		}
	}
	earlier := d.meta.NumDelivered - 1
	v.failed = earlier - min(d.excused, earlier)
	if v.failed >= s.bus.opts.MaxAttempts {
		v.err = Terminal(ReasonTooManyAttempts, fmt.Errorf("%d attempts did not come back from the handler", v.failed))
		return nil, v
	}
	v.err = s.guard(ctx, func(ctx context.Context) (err error) {
		facts, err = s.handler(ctx, d.fact)
		return err
	})
	return facts, v
}

// guard bounds the time that a handler takes, and turns a panic into an error.
func (s settler) guard(ctx context.Context, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.bus.opts.HandleTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{value: r, stack: debug.Stack()}
		}
	}()
	return do(ctx)
}

// say says what the handler returned, with the event as its cause. That the
// server is away is no failure of the handler.
func (s settler) say(ctx context.Context, d *delivery, facts []Fact) error {
	for i := range facts {
		if facts[i].CausationID == "" {
			facts[i].CausationID = d.fact.EventID()
		}
		// What is said of another rollout is a story of its own, and linked to this one.
		if facts[i].TraceParent == "" && facts[i].story() == d.fact.story() {
			facts[i].TraceParent = d.fact.TraceParent
		}
	}
	err := s.bus.Say(ctx, facts...)
	if err != nil && transient(err) {
		return RetryAfter(0, err)
	}
	return err
}

// settle acts: the dead letter is stored before the event is ended, and the
// excuse before it is given back. It returns what was done in the end.
func (s settler) settle(work context.Context, d *delivery, a action, cause error) (action, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), settleTimeout)
	defer cancel()
	var errs []error
	if a.outcome == outcomeDead {
		if err := s.bus.bury(ctx, s.consumer, d, a.reason, cause); err != nil {
			errs = append(errs, err)
			a = action{outcome: outcomeRetried, delay: s.bus.opts.Backoff(d.meta.NumDelivered), excused: true}
		}
	}
	if a.excused {
		errs = append(errs, s.excuse(work, d))
	}
	switch a.outcome {
	case outcomeDone, outcomeSuperseded:
		errs = append(errs, s.acknowledge(ctx, d.msg))
	case outcomeDead:
		errs = append(errs, d.msg.TermWithReason(a.reason))
	case outcomeRetried, outcomeWaiting:
		errs = append(errs, d.msg.NakWithDelay(a.delay))
	case outcomeInterrupted:
		errs = append(errs, d.msg.Nak())
	}
	return a, errors.Join(errs...)
}

// excuse counts that the delivery was no failure. The event stays in hand until that
// is stored, or the service stops: given back uncounted again and again, it would
// become a dead letter for no other reason than that a disk was full.
func (s settler) excuse(work context.Context, d *delivery) error {
	for {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(work), settleTimeout)
		stop := s.heartbeat(d.msg)
		err := s.writeWaits(ctx, d.meta, d.excused+1)
		stop()
		cancel()
		if err == nil || !transient(err) || work.Err() != nil {
			return err
		}
		s.bus.log.WarnContext(work, "an event stays in hand until the bus stores again", "consumer", s.consumer, "sequence", d.meta.Sequence.Stream, "error", err)
	}
}

// acknowledge waits for the server's word. Where it does not come, the event is
// delivered again, and what the handler says is stored already.
func (s settler) acknowledge(ctx context.Context, msg jetstream.Msg) error {
	for {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		err := msg.DoubleAck(try)
		cancel()
		if err == nil || !transient(err) || !pause(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// giveBack returns an event that was not looked at.
func (s settler) giveBack(work context.Context, msg jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), settleTimeout)
	defer cancel()
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	excused := uint64(0)
	if meta.NumDelivered > 1 {
		excused, err = s.readWaits(ctx, meta)
	}
	if err == nil {
		err = s.writeWaits(ctx, meta, excused+1)
	}
	if err = errors.Join(err, msg.Nak()); err != nil {
		s.bus.log.WarnContext(ctx, "an event was not given back in order", "sequence", meta.Sequence.Stream, "error", err)
	}
}

// heartbeat keeps the event with us, for as long as a handler may take and its
// facts after that; a handler that hangs beyond loses it.
func (s settler) heartbeat(msg jetstream.Msg) (stop func()) {
	o := s.bus.opts
	ctx, cancel := context.WithTimeout(context.Background(), o.HandleTimeout+o.SayTimeout+settleTimeout)
	every := time.NewTicker(max(s.ackWait/3, 10*time.Millisecond))
	go func() {
		defer every.Stop()
		for {
			select {
			case <-every.C:
				// An error is a lost connection, or that it is acknowledged already.
				_ = msg.InProgress()
			case <-ctx.Done():
				return
			}
		}
	}()
	return cancel
}

// report tells each audience once: a log line, the metrics, the span.
func (s settler) report(ctx context.Context, d *delivery, a action, cause, settleErr error, took time.Duration) {
	f := d.fact
	s.bus.metrics.observeHandled(f, a.outcome, took)
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("group", f.About()),
		slog.Int64("generation", f.Rollout.Generation),
		slog.String("event", f.ID),
		slog.Uint64("attempt", f.Attempt),
		slog.String("type", typeLabel(f)),
		slog.String("consumer", s.consumer),
		slog.Uint64("sequence", f.Sequence),
		slog.String("outcome", string(a.outcome)),
		slog.Duration("took", took),
	}
	if a.delay > 0 {
		attrs = append(attrs, slog.Duration("delay", a.delay))
	}
	if cause != nil {
		attrs = append(attrs, slog.String("error", redact(cause.Error())))
	}
	if p, ok := errors.AsType[*panicError](cause); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	if settleErr != nil {
		attrs = append(attrs, slog.String("settling", redact(settleErr.Error())))
	}
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("orkestra.outcome", string(a.outcome)))
	switch a.outcome {
	case outcomeDone, outcomeSuperseded:
	case outcomeWaiting: // a step may wait for hours, and look every second
	case outcomeInterrupted, outcomeRetried:
		level = slog.LevelWarn
	case outcomeDead:
		level = slog.LevelError
		s.bus.metrics.observeDead(f)
		if buried := s.bus.opts.Buried; buried != nil {
			buried(context.WithoutCancel(ctx), f, a.reason)
		}
		span.SetStatus(codes.Error, a.reason)
	}
	s.bus.log.LogAttrs(ctx, level, "event handled", attrs...)
}
