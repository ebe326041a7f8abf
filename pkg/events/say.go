package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
)

const (
	contentTypeStructured = "application/cloudevents+json"

	// maxMessage is the server's default max_payload, headers included. A server
	// that takes more does not change what we say: others may not.
	maxMessage = 1 << 20
	// replayReserve leaves room for the headers of a replay.
	replayReserve = 1 << 10

	// firstWait before a request is repeated, and lastWait, to which it doubles.
	firstWait = 50 * time.Millisecond
	lastWait  = time.Second

	// codeDuplicateInProcess: a replicated stream is storing that id just now.
	codeDuplicateInProcess jetstream.ErrorCode = 10158
	// codeReplicasNotSupported: one server cannot replicate, and will not learn it,
	// though it calls that an error of its own (500).
	codeReplicasNotSupported jetstream.ErrorCode = 10074
)

// What became of a fact, the label outcome of orkestra_events_published_total.
const (
	publishedStored     = "stored"
	publishedDuplicate  = "duplicate"
	publishedSuperseded = "superseded"
	publishedFailed     = "failed"
)

// fenced are the things of which two replicas, which watch the same objects,
// speak independently: a stale one must not have the last word. All facts of
// such a thing are fenced, because they share a subject, and the fence reads
// the last message on it.
var fenced = map[string]bool{
	TypeGroupDesired.Thing():     true,
	TypeRolloutSucceeded.Thing(): true,
}

// Say publishes facts in their order and returns when the stream has stored
// them. What is stored already is a success. What the stream knows to be stale,
// because a newer generation of the same group has been spoken of, is left out,
// and the error is Superseded after the others have been said; any other error
// ends Say at once.
//
// Say retries while the server is away, within Options.SayTimeout for each fact.
func (b *Bus) Say(ctx context.Context, facts ...Fact) error {
	var superseded error
	for _, f := range facts {
		err := b.say(ctx, f)
		if IsSuperseded(err) {
			superseded = errors.Join(superseded, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return superseded
}

func (b *Bus) say(ctx context.Context, f Fact) error {
	ctx, cancel := context.WithTimeout(ctx, b.opts.SayTimeout)
	defer cancel()
	f.ID = ""
	ctx, told := b.tell(ctx, &f)
	outcome, err := b.publishFact(ctx, f)
	told(outcome)
	b.metrics.observePublished(f, outcome)
	if err != nil {
		return fmt.Errorf("saying %s: %w", f.contentID(), err)
	}
	return nil
}

func (b *Bus) publishFact(ctx context.Context, f Fact) (outcome string, err error) {
	msg, err := b.message(ctx, f)
	if err != nil {
		return publishedFailed, err
	}
	if fenced[f.Type().Thing()] {
		return b.publishFenced(ctx, f, msg)
	}
	outcome, _, err = b.publish(ctx, msg)
	return outcome, err
}

// message is the NATS message of a fact.
func (b *Bus) message(ctx context.Context, f Fact) (*nats.Msg, error) {
	if f.Time.IsZero() {
		f.Time = time.Now()
	}
	f.Time = f.Time.UTC()
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(f.TraceParent))
	}
	if f.TraceParent == "" {
		f.TraceParent = traceParent(ctx)
	}
	data, err := encode(f, b.opts.Source)
	if err != nil {
		return nil, Terminal(ReasonBadPayload, fmt.Errorf("encoding: %w", err))
	}
	msg := nats.NewMsg(Subject(f))
	msg.Data = data
	msg.Header.Set(headerContentType, contentTypeStructured)
	msg.Header.Set(jetstream.MsgIDHeader, f.contentID())
	msg.Header.Set(jetstream.ExpectedStreamHeader, StreamEvents)
	w3c.Inject(ctx, carrier(msg.Header))
	if size, limit := int64(msg.Size()), b.maxSize(); size > limit {
		return nil, Terminal(ReasonEventTooLarge, fmt.Errorf("it has %d bytes with its headers, and %d fit", size, limit))
	}
	return msg, nil
}

// maxSize of a message, in bytes, headers and subject included.
func (b *Bus) maxSize() int64 {
	limit := int64(maxMessage)
	if served := b.nc.MaxPayload(); served > 0 { // 0: never connected yet
		limit = min(limit, served)
	}
	return limit - replayReserve
}

// publish stores msg, and retries while the server is away. The message's id
// makes a repetition harmless. The sequence is that of the message that the stream has.
func (b *Bus) publish(ctx context.Context, msg *nats.Msg) (outcome string, sequence uint64, err error) {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		ack, err := b.js.PublishMsg(try, msg)
		cancel()
		switch {
		case err == nil && ack.Duplicate:
			return publishedDuplicate, ack.Sequence, nil
		case err == nil:
			return publishedStored, ack.Sequence, nil
		case !b.worthAnother(ctx, err):
			return publishedFailed, 0, err
		}
		if wait == firstWait {
			b.log.WarnContext(ctx, "waiting for JetStream to store", "subject", msg.Subject, "error", err)
		}
		if !pause(ctx, wait) {
			return publishedFailed, 0, err
		}
	}
}

// worthAnother reports whether a failed request may be repeated. Where the
// streams are lost, and this Bus had made them, it makes them again.
func (b *Bus) worthAnother(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if !lost(err) {
		return transient(err)
	}
	if b.ensured.Load() {
		return b.EnsureTopology(ctx) == nil
	}
	return true // somebody may
}

// lost reports whether a stream or a consumer is not there. A publisher cannot
// tell that from a stream without a leader.
func lost(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted)
}

// publishFenced stores msg unless the last message on its subject says that it
// is said already or stale. Whoever loses the race to be the next on the
// subject (error 10071; 10164 on a replicated stream) reads again and decides.
//
// What this Bus has said last there is tried without reading. That it was said is no
// proof that the stream still has it, and so nothing is left out on the word of that alone.
func (b *Bus) publishFenced(ctx context.Context, f Fact, msg *nats.Msg) (outcome string, err error) {
	ours, known := b.said.take(msg.Subject)
	for {
		last, sequence := &ours.fact, ours.sequence
		if !known || fence(last, f) != fenceOpen {
			last, sequence, err = b.last(ctx, msg.Subject)
		}
		if err != nil {
			return publishedFailed, fmt.Errorf("reading the last event on %s: %w", msg.Subject, err)
		}
		switch fence(last, f) {
		case fenceSaid:
			b.said.put(msg.Subject, *last, sequence)
			return publishedDuplicate, nil
		case fenceStale:
			return publishedSuperseded, Superseded(last.EventID())
		case fenceOpen:
		}
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(sequence))
		outcome, sequence, err = b.publish(ctx, msg)
		if outcome == publishedStored {
			b.said.put(msg.Subject, f, sequence)
		}
		if !lostRace(err) || !known && !pause(ctx, 20*time.Millisecond) {
			return outcome, err
		}
		known = false
	}
}

// said is what was said last on a subject, as far as a fence looks at it, and the sequence that it has.
type said struct {
	fact     Fact
	sequence uint64
}

// sayings are what a Bus has said last on fenced subjects.
type sayings struct {
	mu   sync.Mutex
	last map[string]said
}

// maxSayings bounds what is remembered; beyond it is begun anew.
const maxSayings = 10_000

// take what is remembered of a subject, which is forgotten.
func (s *sayings) take(subject string) (last said, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known = s.last[subject]
	delete(s.last, subject)
	return last, known
}

func (s *sayings) put(subject string, f Fact, sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || len(s.last) >= maxSayings {
		s.last = map[string]said{}
	}
	s.last[subject] = said{Fact{ID: f.EventID(), Rollout: f.Rollout}, sequence}
}

func lostRace(err error) bool {
	code, _ := apiCode(err)
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

type fenceDecision int

const (
	fenceOpen fenceDecision = iota
	fenceSaid
	fenceStale
)

// fence decides whether f may follow last on their subject; last is nil where
// there is none. Only generations of one object have an order: another UID is
// another group, and requestedAt is whatever its author wrote.
func fence(last *Fact, f Fact) fenceDecision {
	switch {
	case last == nil:
		return fenceOpen
	case last.EventID() == f.contentID():
		return fenceSaid
	case last.Rollout.UID == f.Rollout.UID && last.Rollout.Generation > f.Rollout.Generation:
		return fenceStale
	default:
		return fenceOpen
	}
}

// last reads the last fact on a subject and its sequence; nil and 0 where there
// is none. What cannot be read as a fact still has a sequence, and no say.
func (b *Bus) last(ctx context.Context, subject string) (*Fact, uint64, error) {
	var raw *jetstream.RawStreamMsg
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		stream, err := b.stream(try, StreamEvents)
		if err == nil {
			raw, err = stream.GetLastMsgForSubject(try, subject)
		}
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, 0, nil
		}
		if err == nil {
			break
		}
		if !b.worthAnother(ctx, err) || !pause(ctx, wait) {
			return nil, 0, err
		}
	}
	if f, err := decode(raw.Subject, raw.Header, raw.Data); err == nil {
		return &f, raw.Sequence, nil
	}
	return nil, raw.Sequence, nil
}

// stream is a handle on a stream; it asks the server once.
func (b *Bus) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if s, ok := b.streams.Load(name); ok {
		return s.(jetstream.Stream), nil
	}
	s, err := b.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	b.streams.Store(name, s)
	return s, nil
}
