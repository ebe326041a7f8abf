package events

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
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
