package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/pkg/events"
)

const (
	// patience until all that was taken in is done.
	patience = 10 * time.Minute
	// lookTime is between two looks at how far the consumer is.
	lookTime = 100 * time.Millisecond
)

// stored is an event as the stream has it.
type stored struct {
	id, what string
	// cause is the delivery that it names.
	cause string
	at    time.Time
	bytes int
}

// tip is the last sequence of the stream.
func (w *world) tip(ctx context.Context) (uint64, error) {
	s, err := w.js.Stream(ctx, events.StreamEvents)
	if err != nil {
		return 0, fmt.Errorf("looking at the stream: %w", err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// read the events of the stream that came after a sequence, with the times at which they
// were stored.
func (w *world) read(ctx context.Context, after uint64) ([]stored, error) {
	tip, err := w.tip(ctx)
	if err != nil || tip <= after {
		return nil, err
	}
	consumer, err := w.js.OrderedConsumer(ctx, events.StreamEvents, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("reading the stream: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return nil, fmt.Errorf("reading the stream: %w", err)
	}
	defer messages.Stop()
	var out []stored
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("reading the stream: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, fmt.Errorf("reading the stream: %w", err)
		}
		out = append(out, storedOf(msg, meta))
		if meta.Sequence.Stream >= tip {
			return out, nil
		}
	}
}

func storedOf(msg jetstream.Msg, meta *jetstream.MsgMetadata) stored {
	s := stored{at: meta.Timestamp, bytes: len(msg.Data()), id: msg.Headers().Get(jetstream.MsgIDHeader)}
	var event struct {
		ID, Type string
		Data     struct{ Origin struct{ Event string } }
	}
	if json.Unmarshal(msg.Data(), &event) == nil { // what the bare handler stores is no event
		s.id, s.what, s.cause = event.ID, event.Type, event.Data.Origin.Event
	}
	return s
}

// await until intake has done all that is in the stream, and count are desired that were
// not at a sequence. It gives what was stored since, and how long that took.
func (w *world) await(ctx context.Context, after uint64, count int) ([]stored, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	for {
		idle, err := w.idle(ctx)
		if err != nil {
			return nil, 0, err
		}
		if idle {
			took := time.Since(begin)
			all, err := w.read(ctx, after)
			if err != nil || countDesired(all) >= count {
				return all, took, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("waiting until intake has done everything: %w", ctx.Err())
		case <-time.After(lookTime):
		}
	}
}

func (w *world) idle(ctx context.Context) (bool, error) {
	c, err := w.js.Consumer(ctx, events.StreamEvents, "intake")
	if err != nil {
		return false, fmt.Errorf("looking at intake's consumer: %w", err)
	}
	info := c.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0, nil
}

func countDesired(all []stored) int {
	n := 0
	for _, s := range all {
		if s.what == string(events.TypeGroupDesired) {
			n++
		}
	}
	return n
}
