package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// walkThreshold is how long the server keeps the consumer of a reader that died.
	walkThreshold = time.Minute
	// walkQuiet is how often a reader of what is there asks whether there is more, where no message comes.
	walkQuiet = 500 * time.Millisecond
	// walkAttempts is how often a reader of what is there asks a server for its consumer again that does not answer:
	// each takes 10 s, and there is 1 s in between. Who follows asks until that is interrupted.
	walkAttempts = 2
)

// FollowOptions select events; the zero value selects all that are stored.
type FollowOptions struct {
	// Group, where not empty.
	Group string
	// Types, where not empty.
	Types []Type
	// Since is the oldest time of storage; zero is the beginning of the stream.
	Since time.Time
	// Follow waits for more, until the context is done. Otherwise Follow returns
	// after the last event that is there when it is called.
	Follow bool
}

// Follow calls fn with each event in the order of the stream, until fn fails or
// ctx is done, which is no error. A server that has become silent may hold up that end for half a minute; who does not
// follow what comes is told of it by an error, after some 40 s. The raw bytes are the event as it is stored,
// structured mode. An event that is not in the contract comes without Data,
// with as much of the rest as could be read; a selection by Types leaves it out.
// Following changes nothing: it leaves no consumer behind, and needs the
// permission to read only.
func (b *Bus) Follow(ctx context.Context, o FollowOptions, fn func(f Fact, raw []byte) error) error {
	group := "*"
	if o.Group != "" {
		group = SubjectToken(o.Group)
	}
	var filters []string
	for _, t := range o.Types {
		if s := subjectPrefix + t.Thing() + "." + group; !slices.Contains(filters, s) {
			filters = append(filters, s)
		}
	}
	if filters == nil {
		filters = []string{subjectPrefix + "*." + group}
	}
	config := jetstream.OrderedConsumerConfig{FilterSubjects: filters}
	if !o.Since.IsZero() {
		config.DeliverPolicy = jetstream.DeliverByStartTimePolicy
		config.OptStartTime = &o.Since
	}
	return b.walk(ctx, StreamEvents, config, o.Follow, func(msg jetstream.Msg, m *jetstream.MsgMetadata) error {
		// What does not decode is shown all the same.
		f, err := decode(msg.Subject(), msg.Headers(), msg.Data())
		if err != nil {
			f.Data = nil
		}
		f.Attempt, f.Sequence = 1, m.Sequence.Stream
		if len(o.Types) > 0 && !slices.Contains(o.Types, f.Type()) {
			return nil
		}
		return fn(f, msg.Data())
	})
}

// walk reads a stream in its order. Without follow it ends with the last message
// that was there when it began.
//
// The consumer of a reader is on one replica of the stream, perhaps on one that does not have yet what others have: where
// that says that nothing more is to come, it only knows of nothing more. So the stream's leader is asked for the end.
func (b *Bus) walk(ctx context.Context, stream string, config jetstream.OrderedConsumerConfig, follow bool,
	fn func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	try, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.js.Stream(try, stream)
	if err != nil {
		return fmt.Errorf("reaching stream %s: %w", stream, err)
	}
	config.InactiveThreshold = walkThreshold
	r := &walker{stream: s, filters: config.FilterSubjects, since: config.OptStartTime}
	if !follow {
		config.MaxResetAttempts = walkAttempts
		if r.end, err = r.newest(try); err != nil {
			return fmt.Errorf("reading stream %s: %w", stream, err)
		}
		if r.end == 0 {
			return nil
		}
	}
	c, err := s.OrderedConsumer(try, config)
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", stream, err)
	}
	defer func() {
		// The library leaves the consumer to its threshold, and who asks often would have
		// many at a time. Who may not delete it does.
		if info := c.CachedInfo(); info != nil {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
			defer cancel()
			if err := s.DeleteConsumer(end, info.Name); err != nil {
				b.log.DebugContext(end, "leaving a consumer to its threshold", "consumer", info.Name, "error", err)
			}
		}
	}()
	messages, err := c.Messages(jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", stream, err)
	}
	defer messages.Stop()
	// The library does not look at the context while it makes its consumer again.
	defer context.AfterFunc(ctx, messages.Stop)()
	if !follow {
		quiet, enough := context.WithCancel(ctx)
		defer enough()
		go b.endWhenRead(quiet, messages, r)
	}
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil || err != nil && r.ended.Load() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading stream %s: %w", stream, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("reading stream %s: %w", stream, err)
		}
		r.last.Store(meta.Sequence.Stream)
		if meta.Sequence.Stream <= r.end || follow {
			if err := fn(msg, meta); err != nil {
				return err
			}
		}
		if !follow && meta.Sequence.Stream >= r.end {
			return nil
		}
	}
}

// walker is how far a reader of what is there has come.
type walker struct {
	stream jetstream.Stream
	// filters are the subjects that it reads; since, from when on they were stored, nil for all.
	filters []string
	since   *time.Time
	// end is the last message that was there when the reading began.
	end uint64
	// last is the message that it has seen last; ended, whether there is no other.
	last  atomic.Uint64
	ended atomic.Bool
}

// newest is the sequence of the newest message that r selects, zero where there is none.
func (r *walker) newest(ctx context.Context) (uint64, error) {
	var newest uint64
	for _, filter := range r.filters {
		switch msg, err := r.stream.GetLastMsgForSubject(ctx, filter); {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return 0, fmt.Errorf("asking for the newest message on %s: %w", filter, err)
		case r.since == nil || !msg.Time.Before(*r.since):
			newest = max(newest, msg.Sequence)
		}
	}
	return newest, nil
}

// endWhenRead ends the reading of what is there where no message comes any more: what was still to come when it began may
// have been discarded since, or have expired. (That is not for Next to wait for, which looks for a server's heartbeat from
// when it is called.)
func (b *Bus) endWhenRead(ctx context.Context, messages jetstream.MessagesContext, r *walker) {
	tick := time.NewTicker(walkQuiet)
	defer tick.Stop()
	before := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		last := r.last.Load()
		if last != before {
			before = last
			continue
		}
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		newest, err := r.newest(try)
		cancel()
		switch {
		case err != nil: // the library waits for a server that is away
			b.log.DebugContext(ctx, "asking whether there is more to read", "error", err)
		case newest <= last:
			r.ended.Store(true)
			messages.Stop()
			return
		}
	}
}
