package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TopologyState is what JetStream has of the topology, beside what it should have.
type TopologyState struct {
	Streams   []StreamCondition
	Consumers []ConsumerCondition
	// StoreBytes that the account uses, of StoreLimit; a limit of 0 is none.
	StoreBytes, StoreLimit uint64
}

// StreamCondition is how a stream of the topology stands.
type StreamCondition struct {
	Name string
	// Missing: there is none. All that follows is empty then.
	Missing bool
	// Drift is what of it is not as this release has it, a sentence each. What an
	// operator may tune is none, nor is what a newer release has set up.
	Drift []string
	// Messages and Bytes are there now; a limit of 0 is none.
	Messages, Bytes       uint64
	MaxMessages, MaxBytes uint64
	// MaxAge after which messages go, of WantAge; 0 is never.
	MaxAge, WantAge time.Duration
	// Replicas that the stream asks for.
	Replicas int
	// Behind are the servers that are away or not up to date, and Leaderless says that
	// nobody leads: nothing can be stored then.
	Behind     []string
	Leaderless bool
}

// ConsumerCondition is how a consumer of the topology stands.
type ConsumerCondition struct {
	Name    string
	Missing bool
	Drift   []string
	// Waiting are the requests of replicas that would take an event now, and InHand the
	// events that were given to one: where both are none, nobody is there.
	Waiting, InHand int
	// Pending are the events that nobody was given yet.
	Pending uint64
	// Paused by an operator: it gives nobody anything.
	Paused bool
}

// Inspect looks at what EnsureTopology makes, and changes nothing. It takes as long as
// ctx lets it where the server does not answer.
func (b *Bus) Inspect(ctx context.Context) (TopologyState, error) {
	var out TopologyState
	if status := b.nc.Status(); status != nats.CONNECTED {
		// Why the server did not let us in, where it has said so.
		return out, errors.Join(fmt.Errorf("connection to NATS: %s", status), b.nc.LastError())
	}
	account, err := b.js.AccountInfo(ctx)
	if err != nil {
		return out, fmt.Errorf("reaching JetStream: %w", err)
	}
	out.StoreBytes, out.StoreLimit = account.Store, limit(account.Limits.MaxStore)
	for _, want := range b.opts.Topology.Streams {
		s, err := b.inspectStream(ctx, want)
		if err != nil {
			return out, err
		}
		out.Streams = append(out.Streams, s)
	}
	for _, want := range b.opts.Topology.Consumers {
		c, err := b.inspectConsumer(ctx, want)
		if err != nil {
			return out, err
		}
		out.Consumers = append(out.Consumers, c)
	}
	return out, nil
}

func (b *Bus) inspectStream(ctx context.Context, want jetstream.StreamConfig) (StreamCondition, error) {
	out := StreamCondition{Name: want.Name, WantAge: want.MaxAge}
	s, err := b.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		out.Missing = true
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("reaching stream %s: %w", want.Name, err)
	}
	info := s.CachedInfo()
	have := info.Config
	out.Drift = streamDrift(have, want)
	out.Messages, out.Bytes = info.State.Msgs, info.State.Bytes
	out.MaxMessages, out.MaxBytes, out.MaxAge, out.Replicas = limit(have.MaxMsgs), limit(have.MaxBytes), have.MaxAge, have.Replicas
	out.Behind, out.Leaderless = behind(info.Cluster)
	return out, nil
}

func (b *Bus) inspectConsumer(ctx context.Context, want jetstream.ConsumerConfig) (ConsumerCondition, error) {
	out := ConsumerCondition{Name: want.Durable}
	c, err := b.js.Consumer(ctx, StreamEvents, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		out.Missing = true
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("reaching consumer %s: %w", want.Durable, err)
	}
	info := c.CachedInfo()
	out.Drift = consumerDrift(info.Config, want)
	out.Waiting, out.InHand, out.Pending, out.Paused = info.NumWaiting, info.NumAckPending, info.NumPending, info.Paused
	return out, nil
}

// streamDrift is what EnsureTopology would change of a stream, and what it cannot.
func streamDrift(have, want jetstream.StreamConfig) []string {
	if newer(have.Metadata) {
		return nil
	}
	var out drift
	next := mergeStream(have, want)
	out.differ("subjects", have.Subjects, want.Subjects, slices.Equal(have.Subjects, want.Subjects))
	out.differ("retention", have.Retention, want.Retention, have.Retention == want.Retention)
	out.differ("storage", have.Storage, want.Storage, have.Storage == want.Storage)
	out.differ("duplicate_window", have.Duplicates, next.Duplicates, have.Duplicates == next.Duplicates)
	out.differ("max_msgs_per_subject", have.MaxMsgsPerSubject, next.MaxMsgsPerSubject, have.MaxMsgsPerSubject == next.MaxMsgsPerSubject)
	out.differ("deny_delete", have.DenyDelete, next.DenyDelete, have.DenyDelete == next.DenyDelete)
	out.differ("deny_purge", have.DenyPurge, next.DenyPurge, have.DenyPurge == next.DenyPurge)
	out.differ("topology", version(have.Metadata), topologyVersion, version(have.Metadata) == topologyVersion)
	return out
}

func consumerDrift(have, want jetstream.ConsumerConfig) []string {
	if newer(have.Metadata) {
		return nil
	}
	var out drift
	filters := have.FilterSubjects
	if have.FilterSubject != "" {
		filters = append(slices.Clone(filters), have.FilterSubject)
	}
	out.differ("filter_subjects", filters, want.FilterSubjects, slices.Equal(filters, want.FilterSubjects))
	out.differ("ack_policy", have.AckPolicy, want.AckPolicy, have.AckPolicy == want.AckPolicy)
	out.differ("deliver_policy", have.DeliverPolicy, want.DeliverPolicy, have.DeliverPolicy == want.DeliverPolicy)
	out.differ("max_deliver", have.MaxDeliver, want.MaxDeliver, have.MaxDeliver == want.MaxDeliver)
	out.differ("backoff", have.BackOff, "none", len(have.BackOff) == 0)
	out.differ("topology", version(have.Metadata), topologyVersion, version(have.Metadata) == topologyVersion)
	return out
}

// drift is what is not as it should be, a sentence each.
type drift []string

func (d *drift) differ(what string, have, want any, same bool) {
	if !same {
		*d = append(*d, fmt.Sprintf("%s is %v, not %v", what, have, want))
	}
}

// behind are the servers of a stream that could not take over from its leader.
func behind(c *jetstream.ClusterInfo) (names []string, leaderless bool) {
	if c == nil {
		return nil, false
	}
	for _, r := range c.Replicas {
		if r.Offline || !r.Current {
			names = append(names, r.Name)
		}
	}
	return names, c.Leader == ""
}

// limit is one of JetStream's, which has none as -1 or 0.
func limit(n int64) uint64 { return uint64(max(n, 0)) }
