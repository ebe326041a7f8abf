package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The streams.
const (
	// StreamEvents holds every fact, orkestra.v1.<thing>.<group>.
	StreamEvents = "ORKESTRA"
	// StreamDeadLetters holds what could not be handled,
	// orkestra.dlq.v1.<consumer>.<group>.
	StreamDeadLetters = "ORKESTRA_DLQ"
	// StreamWaits counts, per consumer and event, the deliveries that were not
	// failures (RetryAfter, shutdown): orkestra.waits.v1.<consumer>.<sequence>.<time>.
	// JetStream counts deliveries, not failures, and nothing can be written into
	// a message; a count in memory would not outlive the handler that it is to survive.
	StreamWaits = "ORKESTRA_WAITS"
)

const (
	deadLetterPrefix = "orkestra.dlq.v1."
	waitsPrefix      = "orkestra.waits.v1."

	day = 24 * time.Hour
	// retention of events: the audit trail, and the longest that a service may be
	// away without losing a hint.
	retention = 30 * day
	// duplicates is how long the server remembers ids. A restart or a partition
	// is over long before; memory is about 200 bytes for each event of a day.
	duplicates = day
	// ackWait is how long a silent consumer keeps an event, and so how long a rollout
	// waits for one that was killed. A living one renews it every third of that, however
	// long its handler takes.
	ackWait = 10 * time.Second
	// maxAckPending bounds the events in hand or waiting of one consumer, all
	// replicas together. Waiting ones count, so the server's default of 1,000 would
	// let a registry that is down for one group stop all others.
	maxAckPending = 10_000

	// topologyVersion grows with every change of DefaultTopology, so that an old
	// replica does not undo what a newer one has set up.
	topologyVersion = 3
	metaVersion     = "orkestra.dev/topology"
)

// Topology is what has to be there in JetStream: the one table behind
// EnsureTopology, Consume and the files in deploy/nats.
type Topology struct {
	Streams   []jetstream.StreamConfig
	Consumers []jetstream.ConsumerConfig
}

// DefaultTopology is Orkestra's. Replicas are unset.
//
// Consumers have no BackOff (with it, NakWithDelay(d) waits for
// d+BackOff[n]-BackOff[0], and BackOff[0] replaces AckWait) and no MaxDeliver
// (past it a message is silently never delivered again).
func DefaultTopology() Topology {
	meta := map[string]string{metaVersion: strconv.Itoa(topologyVersion)}
	consumer := func(name, description string, things ...string) jetstream.ConsumerConfig {
		c := jetstream.ConsumerConfig{
			Durable:       name,
			Description:   description,
			DeliverPolicy: jetstream.DeliverAllPolicy,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       ackWait,
			MaxDeliver:    -1,
			MaxAckPending: maxAckPending,
			Metadata:      meta,
		}
		for _, thing := range things {
			c.FilterSubjects = append(c.FilterSubjects, subjectPrefix+thing+".*")
		}
		return c
	}
	return Topology{
		Streams: []jetstream.StreamConfig{{
			Name:        StreamEvents,
			Description: "What Orkestra's services say: CloudEvents, one subject per thing and group",
			Subjects:    []string{subjectAll},
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			MaxAge:      retention,
			Duplicates:  duplicates,
			DenyDelete:  true, // the audit trail has no holes
			DenyPurge:   true,
			Metadata:    meta,
		}, {
			Name:        StreamDeadLetters,
			Description: "Events that a service gave up on, until they are replayed or discarded",
			Subjects:    []string{deadLetterPrefix + ">"},
			Retention:   jetstream.LimitsPolicy,
			Storage:     jetstream.FileStorage,
			MaxAge:      3 * retention,
			Duplicates:  duplicates,
			Metadata:    meta,
		}, {
			Name:              StreamWaits,
			Description:       "How often an event waited, so that waiting is not taken for failing",
			Subjects:          []string{waitsPrefix + ">"},
			Retention:         jetstream.LimitsPolicy,
			Storage:           jetstream.FileStorage,
			MaxAge:            retention,
			MaxMsgsPerSubject: 1,
			Metadata:          meta,
		}},
		Consumers: []jetstream.ConsumerConfig{
			consumer("stager", "Stages the charts of desired groups", "group"),
			consumer("compiler", "Makes workflows of groups and staged charts, and what undoes a failed one", "group", "charts", "rollout"),
			consumer("executor", "Settles the release nodes of workflows", "workflow", "node", "release"),
			consumer("intake", "Ends rollouts and deletions, and does what webhooks ask for", "rollout", "release", "webhook"),
		},
	}
}

// consumer finds a consumer of the table.
func (t Topology) consumer(name string) (jetstream.ConsumerConfig, bool) {
	i := slices.IndexFunc(t.Consumers, func(c jetstream.ConsumerConfig) bool { return c.Durable == name })
	if i < 0 {
		return jetstream.ConsumerConfig{}, false
	}
	return t.Consumers[i], true
}

// EnsureTopology creates or updates the streams and consumers; it is
// idempotent, and every replica of every service may call it. It waits for a
// server to be there until ctx is done. What an operator may tune is left as it
// is on what exists: replicas (unless Options.Replicas is set), placement, age and
// size limits, compression, AckWait and MaxAckPending.
func (b *Bus) EnsureTopology(ctx context.Context) error {
	b.ensured.Store(true)
	for _, s := range b.opts.Topology.Streams {
		if err := b.untilThere(ctx, "stream "+s.Name, func(ctx context.Context) error {
			return b.ensureStream(ctx, s)
		}); err != nil {
			return err
		}
	}
	for _, c := range b.opts.Topology.Consumers {
		if err := b.untilThere(ctx, "consumer "+c.Durable, func(ctx context.Context) error {
			return b.ensureConsumer(ctx, c)
		}); err != nil {
			return err
		}
	}
	return nil
}

// AwaitTopology waits until the streams are there, as this version of the package
// or a later one makes them, or ctx is done: for a service that may not make them.
// The consumers are made with them.
func (b *Bus) AwaitTopology(ctx context.Context) error {
	for _, s := range b.opts.Topology.Streams {
		if err := b.untilThere(ctx, "stream "+s.Name, func(ctx context.Context) error {
			have, err := b.js.Stream(ctx, s.Name)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return notYet("it is not there yet")
			}
			if err != nil {
				return err
			}
			if v := version(have.CachedInfo().Config.Metadata); v < topologyVersion {
				return notYet(fmt.Sprintf("it is of topology %d, and this release needs %d", v, topologyVersion))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// notYet is what somebody else has to do first.
type notYet string

func (e notYet) Error() string { return string(e) }

// KeepTopology makes the streams and consumers, looks every interval whether they
// are as they should be, and mends what is not, until ctx is done. Made is called
// when they are there for the first time.
func (b *Bus) KeepTopology(ctx context.Context, interval time.Duration, made func()) {
	first := true
	for {
		err := b.EnsureTopology(ctx)
		if err == nil && first {
			first = false
			made()
		}
		if err != nil && ctx.Err() == nil {
			b.log.ErrorContext(ctx, "the topology cannot be made", "error", err)
		}
		if !pause(ctx, interval) {
			return
		}
	}
}

// untilThere repeats ensure while the server is away, has no leader, or another
// replica is faster.
func (b *Bus) untilThere(ctx context.Context, what string, ensure func(context.Context) error) error {
	for attempt := uint64(1); ; attempt++ {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		err := ensure(try)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil && (transient(err) || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.As(err, new(notYet))):
			b.log.WarnContext(ctx, "waiting for JetStream", "for", what, "attempt", attempt, "error", err)
			if pause(ctx, min(time.Duration(attempt)*200*time.Millisecond, 5*time.Second)) {
				continue
			}
		}
		return fmt.Errorf("ensuring %s: %w", what, err)
	}
}

func (b *Bus) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	want.Replicas = b.opts.Replicas
	s, err := b.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = b.js.CreateStream(ctx, want)
		return err
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	if newer(have.Metadata) {
		return nil
	}
	next := mergeStream(have, want)
	if reflect.DeepEqual(have, next) {
		return nil
	}
	_, err = b.js.UpdateStream(ctx, next)
	return err
}

func (b *Bus) ensureConsumer(ctx context.Context, want jetstream.ConsumerConfig) error {
	c, err := b.js.Consumer(ctx, StreamEvents, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = b.js.CreateOrUpdateConsumer(ctx, StreamEvents, want)
		return err
	}
	if err != nil {
		return err
	}
	have := c.CachedInfo().Config
	if newer(have.Metadata) {
		return nil
	}
	next := mergeConsumer(have, want)
	if reflect.DeepEqual(have, next) {
		return nil
	}
	_, err = b.js.CreateOrUpdateConsumer(ctx, StreamEvents, next)
	return err
}

// newer reports whether a later version of this package set it up.
func newer(meta map[string]string) bool { return version(meta) > topologyVersion }

// version of the topology that set it up; 0 where that is not known.
func version(meta map[string]string) int {
	v, err := strconv.Atoi(meta[metaVersion])
	if err != nil {
		return 0
	}
	return v
}

// mergeStream is what exists, with the meaning that we give to it.
func mergeStream(have, want jetstream.StreamConfig) jetstream.StreamConfig {
	next := have
	next.Description = want.Description
	next.Subjects = want.Subjects
	next.MaxMsgsPerSubject = have.MaxMsgsPerSubject
	if want.MaxMsgsPerSubject > 0 {
		next.MaxMsgsPerSubject = want.MaxMsgsPerSubject
	}
	if want.Duplicates > 0 {
		next.Duplicates = want.Duplicates
		if have.MaxAge > 0 { // the server refuses a window that is longer
			next.Duplicates = min(want.Duplicates, have.MaxAge)
		}
	}
	// They cannot be taken back, only set.
	next.DenyDelete = have.DenyDelete || want.DenyDelete
	next.DenyPurge = have.DenyPurge || want.DenyPurge
	if want.Replicas > 0 {
		next.Replicas = want.Replicas
	}
	next.Metadata = mergeMeta(have.Metadata, want.Metadata)
	return next
}

func mergeConsumer(have, want jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	next := have
	next.Description = want.Description
	next.FilterSubject = ""
	next.FilterSubjects = want.FilterSubjects
	next.MaxDeliver = want.MaxDeliver
	next.BackOff = nil
	next.Metadata = mergeMeta(have.Metadata, want.Metadata)
	return next
}

func mergeMeta(have, want map[string]string) map[string]string {
	next := maps.Clone(have)
	if next == nil {
		next = map[string]string{}
	}
	maps.Copy(next, want)
	return next
}
