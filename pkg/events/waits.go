package events

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream counts how often it delivered an event, and a handler that was
// killed leaves no other trace than that number. So that an event which waits
// for long, or lived through many restarts, is not taken for one that kills its
// handlers, the deliveries that were no failures are counted in a stream of
// their own, before the event is given back:
//
//	failed attempts = deliveries so far - those counted here
//
// A death between the count and the giving back excuses one attempt too many.

// waitsSubject names a delivery's event by sequence and time: after the loss of
// all streams the sequences begin again.
func waitsSubject(consumer string, m *jetstream.MsgMetadata) string {
	return fmt.Sprintf("%s%s.%d.%d", waitsPrefix, consumer, m.Sequence.Stream, m.Timestamp.UnixNano())
}

func (s settler) readWaits(ctx context.Context, m *jetstream.MsgMetadata) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.bus.stream(ctx, StreamWaits)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	raw, err := stream.GetLastMsgForSubject(ctx, waitsSubject(s.consumer, m))
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(raw.Data), 10, 64)
}

func (s settler) writeWaits(ctx context.Context, m *jetstream.MsgMetadata, count uint64) error {
	msg := nats.NewMsg(waitsSubject(s.consumer, m))
	msg.Data = strconv.AppendUint(nil, count, 10)
	if _, _, err := s.bus.publish(ctx, msg); err != nil {
		return fmt.Errorf("counting that the event waits: %w", err)
	}
	return nil
}
