package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a dead letter, beside those of the original. The body is the
// original's, byte for byte.
const (
	headerDeadConsumer   = "Orkestra-Dead-Consumer"
	headerDeadReason     = "Orkestra-Dead-Reason"
	headerDeadError      = "Orkestra-Dead-Error"
	headerDeadSubject    = "Orkestra-Dead-Subject"
	headerDeadSequence   = "Orkestra-Dead-Sequence"
	headerDeadStored     = "Orkestra-Dead-Stored"
	headerDeadDeliveries = "Orkestra-Dead-Deliveries"
	// headerDeadElsewhere: the original is too large for a letter with its headers;
	// it is in the stream of events, at the sequence, for as long as that keeps it.
	headerDeadElsewhere = "Orkestra-Dead-Elsewhere"
	headerDeadPrefix    = "Orkestra-Dead-"

	// headerReplayOf is the number of the letter that a message replays.
	headerReplayOf = "Orkestra-Replay-Of"

	headerNATSPrefix = "Nats-"

	// maxErrorText bounds the error in a letter, in bytes.
	maxErrorText = 2048
)

// DeadLetter is an event that a consumer gave up on.
type DeadLetter struct {
	// Sequence is the letter's number, by which it is shown, replayed and discarded.
	Sequence uint64 `json:"sequence"`
	// Time at which the consumer gave up.
	Time time.Time `json:"time"`
	// Consumer that gave up, why (a CamelCase word), and the error.
	Consumer string `json:"consumer"`
	Reason   string `json:"reason"`
	Error    string `json:"error,omitempty"`
	// Subject, position and time of the original in the stream of events.
	Subject        string    `json:"subject"`
	StreamSequence uint64    `json:"streamSequence"`
	StreamTime     time.Time `json:"streamTime"`
	// Deliveries of the original to the consumer.
	Deliveries uint64 `json:"deliveries"`
	// Event is the original message's body: a CloudEvent, unless that is what is
	// wrong with it.
	Event []byte `json:"event"`

	header nats.Header
}

// Fact reads the letter's event. The fact holds what could be read where there
// is an error.
func (l DeadLetter) Fact() (Fact, error) {
	f, err := decode(l.Subject, l.header, l.Event)
	f.Sequence = l.StreamSequence
	return f, err
}

// DeadLetterFilter selects dead letters; the zero value selects all.
type DeadLetterFilter struct {
	// Group and Consumer, where not empty.
	Group, Consumer string
}

// bury stores a dead letter and waits until the server has it.
func (b *Bus) bury(ctx context.Context, consumer string, d *delivery, reason string, cause error) error {
	tokens := strings.Split(d.msg.Subject(), ".")
	letter := nats.NewMsg(deadLetterPrefix + consumer + "." + tokens[len(tokens)-1])
	letter.Header = originalHeaders(d.msg.Headers())
	letter.Data = d.msg.Data()
	set := func(name, value string) { letter.Header.Set(name, value) }
	// A second death of the same delivery is the same letter; a replayed event has
	// another sequence, and a letter of its own.
	set(jetstream.MsgIDHeader, fmt.Sprintf("%s/%d/%d", consumer, d.meta.Sequence.Stream, d.meta.Timestamp.UnixNano()))
	set(headerDeadConsumer, consumer)
	set(headerDeadReason, reason)
	set(headerDeadSubject, d.msg.Subject())
	set(headerDeadSequence, strconv.FormatUint(d.meta.Sequence.Stream, 10))
	set(headerDeadStored, d.meta.Timestamp.UTC().Format(time.RFC3339Nano))
	set(headerDeadDeliveries, strconv.FormatUint(d.meta.NumDelivered, 10))
	if cause != nil {
		set(headerDeadError, oneLine(redact(cause.Error())))
	}
	if limit := b.maxSize() + replayReserve; int64(letter.Size()) > limit {
		for name := range letter.Header {
			if name != jetstream.MsgIDHeader && !strings.HasPrefix(name, headerDeadPrefix) {
				letter.Header.Del(name)
			}
		}
		letter.Data = nil
		set(headerDeadElsewhere, "true")
	}
	if _, _, err := b.publish(ctx, letter); err != nil {
		return fmt.Errorf("storing the dead letter: %w", err)
	}
	return nil
}

// originalHeaders copies what is the event's, and not the transport's.
func originalHeaders(h nats.Header) nats.Header {
	kept := nats.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, headerNATSPrefix) || strings.HasPrefix(name, headerDeadPrefix) ||
			name == headerReplayOf || name == "Status" || name == "Description" {
			continue
		}
		kept[name] = values
	}
	return kept
}

// DeadLetters calls fn for each letter that there is now, oldest first, until fn
// fails.
func (b *Bus) DeadLetters(ctx context.Context, filter DeadLetterFilter, fn func(DeadLetter) error) error {
	subject := deadLetterPrefix + cmp.Or(filter.Consumer, "*") + "." + cmp.Or(SubjectToken(filter.Group), "*")
	config := jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}}
	return b.walk(ctx, StreamDeadLetters, config, false, func(msg jetstream.Msg, m *jetstream.MsgMetadata) error {
		l := letter(msg.Headers(), msg.Data(), m.Sequence.Stream, m.Timestamp)
		if err := b.fetchElsewhere(ctx, &l); err != nil {
			return err
		}
		return fn(l)
	})
}

// DeadLetter reads one letter. The error is ErrNotFound where there is none.
func (b *Bus) DeadLetter(ctx context.Context, sequence uint64) (DeadLetter, error) {
	stream, err := b.stream(ctx, StreamDeadLetters)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("reaching stream %s: %w", StreamDeadLetters, err)
	}
	raw, err := stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", sequence, ErrNotFound)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("reading dead letter %d: %w", sequence, err)
	}
	l := letter(raw.Header, raw.Data, raw.Sequence, raw.Time)
	return l, b.fetchElsewhere(ctx, &l)
}

// Replay puts the letter's event on its subject again, with the id that it had,
// and discards the letter. All consumers of the subject hear it, not only the one
// that gave up. The error is Superseded where a newer generation of the group
// has been spoken of since; the letter stays then, to be discarded.
//
// Replaying a letter twice, because a death came between the two steps, stores
// the event once.
func (b *Bus) Replay(ctx context.Context, sequence uint64) error {
	l, err := b.DeadLetter(ctx, sequence)
	if err != nil {
		return err
	}
	if l.header.Get(headerDeadElsewhere) != "" && l.Event == nil {
		return fmt.Errorf("replaying dead letter %d: the stream does not keep its event any longer: %w", sequence, ErrNotFound)
	}
	msg := nats.NewMsg(l.Subject)
	msg.Data = l.Event
	msg.Header = originalHeaders(l.header)
	msg.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("replay/%d/%d", sequence, l.Time.UnixNano()))
	msg.Header.Set(jetstream.ExpectedStreamHeader, StreamEvents)
	msg.Header.Set(headerReplayOf, strconv.FormatUint(sequence, 10))
	if err := b.replay(ctx, l, msg); err != nil {
		return fmt.Errorf("replaying dead letter %d: %w", sequence, err)
	}
	return b.Discard(ctx, sequence)
}

func (b *Bus) replay(ctx context.Context, l DeadLetter, msg *nats.Msg) error {
	// An event that does not decode here may for the service that is to hear it.
	if f, err := l.Fact(); err == nil && fenced[f.Type().Thing()] {
		last, _, err := b.last(ctx, l.Subject)
		if err != nil {
			return fmt.Errorf("reading the last event on %s: %w", l.Subject, err)
		}
		if fence(last, f) == fenceStale {
			return Superseded(last.EventID())
		}
	}
	_, _, err := b.publish(ctx, msg)
	return err
}

// Discard removes a letter. The error is ErrNotFound where there is none.
func (b *Bus) Discard(ctx context.Context, sequence uint64) error {
	stream, err := b.stream(ctx, StreamDeadLetters)
	if err == nil {
		err = stream.DeleteMsg(ctx, sequence)
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if _, getErr := b.DeadLetter(ctx, sequence); errors.Is(getErr, ErrNotFound) {
			return getErr
		}
	}
	if err != nil {
		return fmt.Errorf("discarding dead letter %d: %w", sequence, err)
	}
	return nil
}

func letter(h nats.Header, data []byte, sequence uint64, at time.Time) DeadLetter {
	number := func(name string) uint64 { n, _ := strconv.ParseUint(h.Get(name), 10, 64); return n }
	stored, _ := time.Parse(time.RFC3339Nano, h.Get(headerDeadStored))
	return DeadLetter{
		Sequence:       sequence,
		Time:           at.UTC(),
		Consumer:       h.Get(headerDeadConsumer),
		Reason:         h.Get(headerDeadReason),
		Error:          h.Get(headerDeadError),
		Subject:        h.Get(headerDeadSubject),
		StreamSequence: number(headerDeadSequence),
		StreamTime:     stored,
		Deliveries:     number(headerDeadDeliveries),
		Event:          data,
		header:         h,
	}
}

// fetchElsewhere completes a letter whose event was too large for it. The event
// stays nil where the stream does not keep it any longer.
func (b *Bus) fetchElsewhere(ctx context.Context, l *DeadLetter) error {
	if l.header.Get(headerDeadElsewhere) == "" {
		return nil
	}
	l.Event = nil
	stream, err := b.stream(ctx, StreamEvents)
	if err != nil {
		return fmt.Errorf("reaching stream %s: %w", StreamEvents, err)
	}
	raw, err := stream.GetMsg(ctx, l.StreamSequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading event %d: %w", l.StreamSequence, err)
	}
	if raw.Time.Equal(l.StreamTime) {
		l.Event = raw.Data
		for name, values := range originalHeaders(raw.Header) {
			l.header[name] = values
		}
	}
	return nil
}

var userinfo = regexp.MustCompile(`://[^/@\s"]+@`)

// redact takes the user and password out of the URLs in an error's text: chart
// repositories are configured with them, and clients quote URLs in errors.
func redact(s string) string { return userinfo.ReplaceAllString(s, "://***@") }

// oneLine makes s fit for a header.
func oneLine(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "") + "…"
	}
	return s
}
