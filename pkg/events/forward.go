package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StreamCDEvents holds the same facts in the vocabulary of CDEvents,
// orkestra.cdevents.>, where somebody has asked for them.
const StreamCDEvents = "ORKESTRA_CDEVENTS"

const cdeventsAll = "orkestra.cdevents.>"

// Decode reads the fact of an event in structured mode, as Read shows it. The fact has
// what could be read where there is an error.
func Decode(subject string, event []byte) (Fact, error) { return decode(subject, nil, event) }

// EnsureCDEvents makes the stream of CDEvents where it is not there; one that is there
// is left as it is.
func (b *Bus) EnsureCDEvents(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := b.js.Stream(ctx, StreamCDEvents)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = b.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:        StreamCDEvents,
			Description: "What Orkestra's services say, as CDEvents",
			Subjects:    []string{cdeventsAll},
			Storage:     jetstream.FileStorage,
			MaxAge:      retention,
			Duplicates:  duplicates,
			Replicas:    b.opts.Replicas,
		})
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("ensuring stream %s: %w", StreamCDEvents, err)
	}
	return nil
}

// PublishCDEvent stores a CDEvent in structured mode, and waits until the stream has it.
// The id makes a repetition within a day harmless. The error is for the caller to retry.
func (b *Bus) PublishCDEvent(ctx context.Context, subject, id string, event []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg := nats.NewMsg(subject)
	msg.Data = event
	msg.Header.Set(headerContentType, contentTypeStructured)
	msg.Header.Set(jetstream.MsgIDHeader, id)
	msg.Header.Set(jetstream.ExpectedStreamHeader, StreamCDEvents)
	if _, err := b.js.PublishMsg(ctx, msg, jetstream.WithRetryWait(100*time.Millisecond)); err != nil {
		return fmt.Errorf("publishing on %s: %w", subject, err)
	}
	return nil
}
