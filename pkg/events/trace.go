package events

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// carrier lets trace contexts travel in NATS headers.
type carrier nats.Header

func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

var w3c propagation.TraceContext

// spanContext reads a traceparent; it is invalid where that is not one.
func spanContext(traceParent string) trace.SpanContext {
	ctx := w3c.Extract(context.Background(), propagation.MapCarrier{headerTraceParent: traceParent})
	return trace.SpanContextFromContext(ctx)
}

// traceParent is the traceparent of the span in ctx, empty where there is none.
func traceParent(ctx context.Context) string {
	m := propagation.MapCarrier{}
	w3c.Inject(ctx, m)
	return m.Get(headerTraceParent)
}

// hop is the trace context of the message's publisher.
func hop(h nats.Header) trace.SpanContext {
	return trace.SpanContextFromContext(w3c.Extract(context.Background(), carrier(h)))
}

func parseTime(s string) (time.Time, error) { return types.ParseTime(s) }

// storyOf is where a story is told: its trace, and the span of the fact that began
// it. Both are functions of the story. A rollout goes through objects of Kubernetes,
// which carry no trace context, and whoever speaks of it finds its trace all the same.
func storyOf(story string) trace.SpanContext {
	sum := sha256.Sum256([]byte("orkestra story " + story))
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(sum[:16]), SpanID: trace.SpanID(sum[16:24]), TraceFlags: trace.FlagsSampled, Remote: true,
	})
}

// beginnings are the facts with which a rollout begins, one of them each time; a
// Standalone fact is a story of its own.
var beginnings = []Type{TypeGroupDesired, TypeGroupRejected, TypeGroupSuspended, TypeGroupDeleting}

func (f Fact) begins() bool {
	_, alone := f.Data.(Standalone)
	return alone || slices.Contains(beginnings, f.Type())
}

// beginning is the key of the context of a span that begins a story.
type beginning struct{}

// TraceIDs makes the ids of traces and spans: those of the span that begins a story
// are the story's, all others chance's. Give it to the SDK's provider
// (sdktrace.WithIDGenerator), or traces have no root.
type TraceIDs struct{}

// NewIDs implements the SDK's IDGenerator.
func (TraceIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if story, ok := ctx.Value(beginning{}).(trace.SpanContext); ok {
		return story.TraceID(), story.SpanID()
	}
	var t trace.TraceID
	for !t.IsValid() {
		binary.NativeEndian.PutUint64(t[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(t[8:], rand.Uint64())
	}
	return t, TraceIDs{}.NewSpanID(ctx, t)
}

// NewSpanID implements the SDK's IDGenerator.
func (TraceIDs) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var s trace.SpanID
	for !s.IsValid() {
		binary.NativeEndian.PutUint64(s[:], rand.Uint64())
	}
	return s
}

// tell begins the span of saying f, and gives f its story. The span ends when told
// is called with what became of f. One that begins a story is made only by who said
// it first: the ids of all that say it are the same.
func (b *Bus) tell(ctx context.Context, f *Fact) (_ context.Context, told func(outcome string)) {
	if b.tracer == nil {
		return ctx, func(string) {}
	}
	cause, story := trace.SpanContextFromContext(ctx), spanContext(f.TraceParent)
	began := f.begins() && !story.IsValid()
	if !story.IsValid() {
		story = storyOf(f.story())
		f.TraceParent = traceParent(trace.ContextWithRemoteSpanContext(context.Background(), story))
	}
	options := b.spanOptions(*f, trace.SpanKindProducer, "send", causes(cause, *f, story)...)
	name := "say " + f.Type().What()
	if began {
		options = append(options, trace.WithTimestamp(time.Now()), trace.WithNewRoot())
		root := context.WithValue(ctx, beginning{}, story)
		return trace.ContextWithRemoteSpanContext(ctx, story), func(outcome string) {
			if outcome == publishedStored {
				_, span := b.tracer.Start(root, name, options...)
				endSay(span, outcome)
			}
		}
	}
	if cause.TraceID() != story.TraceID() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, story)
	}
	ctx, span := b.tracer.Start(ctx, name, options...)
	return ctx, func(outcome string) { endSay(span, outcome) }
}

func endSay(span trace.Span, outcome string) {
	span.SetAttributes(attribute.String("orkestra.outcome", outcome))
	if outcome == publishedFailed {
		span.SetStatus(codes.Error, "not stored")
	}
	span.End()
}

// causes of f in other traces: the span in which it is said, and the story that its
// cause is.
func causes(in trace.SpanContext, f Fact, story trace.SpanContext) (links []trace.Link) {
	if in.IsValid() && in.TraceID() != story.TraceID() {
		links = append(links, trace.Link{SpanContext: in})
	}
	if standalone(f.CausationID) {
		links = append(links, trace.Link{SpanContext: storyOf(f.CausationID)})
	}
	return links
}

// standalone reports whether id is that of a Standalone fact, which is its story's.
func standalone(id string) bool {
	what, _, _ := strings.Cut(id, "/")
	return slices.ContainsFunc(registry, func(e struct {
		example Payload
		decode  func([]byte) (Payload, error)
	}) bool {
		_, alone := e.example.(Standalone)
		return alone && e.example.EventType().What() == what
	})
}

// hear begins the span of one delivery: it is told in the event's story, and linked
// to who published this very event.
func (b *Bus) hear(work context.Context, consumer string, d *delivery) (context.Context, trace.Span) {
	if b.tracer == nil {
		return work, trace.SpanFromContext(work)
	}
	story, publisher := spanContext(d.fact.TraceParent), hop(d.msg.Headers())
	if !story.IsValid() {
		story = storyOf(d.fact.story())
	}
	var links []trace.Link
	if publisher.IsValid() {
		links = append(links, trace.Link{SpanContext: publisher})
	}
	options := append(b.spanOptions(d.fact, trace.SpanKindConsumer, "process", links...),
		trace.WithAttributes(attribute.String("messaging.consumer.group.name", consumer)))
	what := d.fact.Type().What()
	if what == "" {
		what = unknownType
	}
	return b.tracer.Start(trace.ContextWithRemoteSpanContext(work, story), consumer+" "+what, options...)
}

// spanOptions are what all spans of an event say. What an error says is not among
// it: a log may be guarded otherwise than a tracing backend.
func (b *Bus) spanOptions(f Fact, kind trace.SpanKind, operation string, links ...trace.Link) []trace.SpanStartOption {
	return []trace.SpanStartOption{
		trace.WithSpanKind(kind),
		trace.WithLinks(links...),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.operation.type", operation),
			attribute.String("messaging.destination.name", StreamEvents),
			attribute.String("messaging.message.id", f.EventID()),
			attribute.String("orkestra.about", f.About()),
			attribute.Int64("orkestra.generation", f.Rollout.Generation),
		),
	}
}
