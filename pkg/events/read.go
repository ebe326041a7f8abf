package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// identityInterval is how often a reader that hears nothing looks whether the
// stream is still the one that it reads.
const identityInterval = 5 * time.Second

// readHeartbeat is how often the server has to be heard of. Each wait for a message
// counts from its own beginning, so that two heartbeats have to fit into one: else a
// consumer whose server has died, while we are connected to another, is never missed.
const readHeartbeat = identityInterval / 3

// ErrStreamReplaced says that the stream is no longer the one that was read: it
// was made anew, or its sequence went back.
var ErrStreamReplaced = errors.New("the stream is not the one that was read")

// StreamState tells one life of a stream of events from another.
type StreamState struct {
	// Created is when the stream was made: another time is another stream.
	Created time.Time
	// First and Last are the sequences that are there. First is Last+1, or zero,
	// where there is none.
	First, Last uint64
}

// Stored is a message of the stream of events as the server keeps it.
type Stored struct {
	Sequence uint64
	// Time of storage.
	Time    time.Time
	Subject string
	// Event is the CloudEvent in structured mode; nil where the message is none.
	Event []byte
	// Raw is the message's body as it is stored.
	Raw []byte
	// Pending is how many messages come after it.
	Pending uint64
}

// EventStream is the state of the stream of events now.
func (b *Bus) EventStream(ctx context.Context) (StreamState, error) {
	try, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.js.Stream(try, StreamEvents)
	if err != nil {
		return StreamState{}, fmt.Errorf("reaching stream %s: %w", StreamEvents, err)
	}
	return stateOf(s.CachedInfo()), nil
}

func stateOf(i *jetstream.StreamInfo) StreamState {
	return StreamState{Created: i.Created, First: i.State.FirstSeq, Last: i.State.LastSeq}
}

// Read calls fn with every message of the stream of events from sequence from
// on, in its order, whatever it is and on whichever subject, and waits for more.
// What the stream has lost is not there: fn sees it by the sequences.
//
// It ends, with nil, when ctx is done; with fn's error; with ErrStreamReplaced
// where the stream was not made at created, or went back behind what was read,
// before any message of the other life is shown; and with an error where the
// stream cannot be reached at first. A server that goes away later is waited for.
// Reading changes nothing and leaves no consumer behind.
func (b *Bus) Read(ctx context.Context, created time.Time, from uint64, fn func(Stored) error) error {
	try, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.js.Stream(try, StreamEvents)
	if err != nil {
		return fmt.Errorf("reaching stream %s: %w", StreamEvents, err)
	}
	c, err := s.OrderedConsumer(try, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   max(from, 1),
	})
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", StreamEvents, err)
	}
	messages, err := c.Messages(jetstream.PullHeartbeat(readHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", StreamEvents, err)
	}
	defer messages.Stop()
	r := reader{bus: b, created: created, fn: fn}
	for {
		wait, cancel := context.WithTimeout(ctx, identityInterval)
		msg, err := messages.Next(jetstream.NextContext(wait))
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			err = r.idle(ctx)
		case err != nil:
			return fmt.Errorf("reading stream %s: %w", StreamEvents, err)
		default:
			err = r.hear(ctx, msg)
		}
		if err != nil {
			return err
		}
	}
}

// reader is what Read knows between two messages.
type reader struct {
	bus     *Bus
	created time.Time
	fn      func(Stored) error
	// consumer that is known to be on the stream: one that was lost is made again
	// under another name, perhaps on another stream.
	consumer string
	last     uint64
}

// hear shows a message. The stream is looked at after the message has come, so
// that a stream that is the old one then was the old one when it sent.
func (r *reader) hear(ctx context.Context, msg jetstream.Msg) error {
	m, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", StreamEvents, err)
	}
	if m.Consumer != r.consumer {
		if err := r.same(ctx); err != nil {
			return err
		}
		r.consumer = m.Consumer
	}
	r.last = m.Sequence.Stream
	stored := Stored{
		Sequence: m.Sequence.Stream, Time: m.Timestamp, Subject: msg.Subject(), Raw: msg.Data(), Pending: m.NumPending,
	}
	if e, err := decodeEvent(msg.Headers(), msg.Data()); err == nil && e.Validate() == nil {
		if stored.Event = msg.Data(); !json.Valid(stored.Event) || binaryMode(msg, stored.Event) {
			if stored.Event, err = json.Marshal(e); err != nil {
				stored.Event = nil
			}
		}
	}
	return r.fn(stored)
}

// binaryMode reports whether the attributes are in the headers, not in the body.
func binaryMode(msg jetstream.Msg, data []byte) bool {
	e, err := decodeEvent(nil, data)
	return len(msg.Headers()) > 0 && (err != nil || e.Validate() != nil)
}

// same looks whether the stream is the one that is read.
func (r *reader) same(ctx context.Context) error {
	s, err := r.bus.EventStream(ctx)
	if err != nil {
		return err
	}
	if !s.Created.Equal(r.created) || s.Last < r.last {
		return ErrStreamReplaced
	}
	return nil
}

// idle is same while there is nothing to hear; a server that is away may come back.
func (r *reader) idle(ctx context.Context) error {
	err := r.same(ctx)
	if err != nil && transient(err) {
		return nil
	}
	return err
}
