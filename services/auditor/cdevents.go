package auditor

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/cdevents"
)

// publisher is what it takes to publish CDEvents.
type publisher interface {
	EnsureCDEvents(ctx context.Context) error
	PublishCDEvent(ctx context.Context, subject, id string, event []byte) error
}

// vocabulary is a target that says the facts again as CDEvents. What is no fact, or has
// no word there, is done with at once.
type vocabulary struct {
	bus publisher
	// made: the stream is there.
	made bool
}

func (v *vocabulary) batch() (int, time.Duration) { return 1, 0 }

func (v *vocabulary) give(ctx context.Context, records []line) (mark, verdict, error) {
	r := records[0]
	done := markOf(r.Record)
	f, ok := factOf(r)
	if !ok {
		return done, verdict{what: outcomeDelivered}, nil
	}
	said, err := cdevents.Of(f)
	if err != nil {
		return done, verdict{what: outcomeRefused}, err
	}
	again := verdict{what: outcomeRetried}
	if !v.made && len(said) > 0 {
		if err := v.bus.EnsureCDEvents(ctx); err != nil {
			return done, again, err
		}
		v.made = true
	}
	for _, e := range said {
		body, err := json.Marshal(e)
		if err != nil {
			return done, again, fmt.Errorf("encoding record %d as a CDEvent: %w", r.N, err)
		}
		if err := v.bus.PublishCDEvent(ctx, cdevents.Subject(f, e), e.ID(), body); err != nil {
			v.made = false // it may have been lost
			return done, again, err
		}
	}
	return done, verdict{what: outcomeDelivered}, nil
}

// factOf reads the fact of a record. Where there is none, the record is of another kind,
// or what was recorded was said by somebody else, or by a later version.
func factOf(r line) (events.Fact, bool) {
	if r.Event == nil {
		return events.Fact{}, false
	}
	f, err := events.Decode(r.Subject, r.Event)
	return f, err == nil
}
