package service

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// A rollout is kept or dropped as a whole, also by the samplers that do as the parent does:
// by the id of its trace, whoever asks.
func TestSampling(t *testing.T) {
	kept := trace.TraceID{15: 1}                // of the lowest half of all ids
	dropped := trace.TraceID{8: 0xff, 15: 0xff} // of the highest
	for name, tt := range map[string]struct {
		sampler, arg  string
		kept, dropped bool
	}{
		"nothing said":          {"", "", true, true},
		"half, by the parent":   {"parentbased_traceidratio", "0.5", true, false},
		"all, by the parent":    {"parentbased_traceidratio", "1", true, true},
		"no ratio":              {"parentbased_traceidratio", "many", true, true},
		"none, by the parent":   {"parentbased_always_off", "", false, false},
		"always, by the parent": {"parentbased_always_on", "", true, true},
		"half":                  {"traceidratio", "0.5", true, false},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", tt.sampler)
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", tt.arg)
		tracer := sdktrace.NewTracerProvider(sampling(func(name string) string {
			return map[string]string{"OTEL_TRACES_SAMPLER": tt.sampler, "OTEL_TRACES_SAMPLER_ARG": tt.arg}[name]
		})...).Tracer("test")
		for id, want := range map[trace.TraceID]bool{kept: tt.kept, dropped: tt.dropped} {
			story := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true})
			ctx, span := tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), story), "hop")
			_, below := tracer.Start(ctx, "below")
			if span.SpanContext().IsSampled() != want || below.SpanContext().IsSampled() != want {
				t.Errorf("%s: trace %s is kept: %t and %t, want %t", name, id, span.SpanContext().IsSampled(), below.SpanContext().IsSampled(), want)
			}
			below.End()
			span.End()
		}
	}
}
