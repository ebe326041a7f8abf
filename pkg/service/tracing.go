package service

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"orkestra.dev/pkg/events"
)

// flushTimeout bounds the sending of the last spans at the end.
const flushTimeout = 3 * time.Second

// validEndpoint refuses what no span can be sent to. It never shows the URL, which may hold a secret.
func validEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("--otlp-endpoint: want http://host:port or https://host:port")
	}
	return nil
}

// traced reports whether there is somewhere to send spans to: nothing is made of
// what is not wanted.
func (o *options) traced(getenv func(string) string) bool {
	if getenv("OTEL_SDK_DISABLED") == "true" || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return cmp.Or(o.otlpEndpoint, getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != ""
}

// sampling is what OTEL_TRACES_SAMPLER asks for where the SDK alone would not do it: to do as
// the parent does. The parent of a rollout's spans is its story, which nobody has decided
// about. So the root's decision is taken of a story too, and it is the same in all services,
// because its trace's id is.
func sampling(getenv func(string) string) []sdktrace.TracerProviderOption {
	var root sdktrace.Sampler
	switch getenv("OTEL_TRACES_SAMPLER") {
	case "parentbased_traceidratio":
		ratio, err := strconv.ParseFloat(getenv("OTEL_TRACES_SAMPLER_ARG"), 64)
		if err != nil || ratio < 0 || ratio > 1 {
			ratio = 1 // the standard's default, also for what is no ratio
		}
		root = sdktrace.TraceIDRatioBased(ratio)
	case "parentbased_always_off":
		root = sdktrace.NeverSample()
	default:
		return nil
	}
	return []sdktrace.TracerProviderOption{sdktrace.WithSampler(sdktrace.ParentBased(root, sdktrace.WithRemoteParentSampled(root)))}
}

// tracing is a provider that sends spans by OTLP over HTTP, as the standard's
// variables OTEL_* say in all else. End sends what is left. Where there is nowhere
// to send to, the provider is nil.
func (o *options) tracing(ctx context.Context, service string, log *slog.Logger) (provider trace.TracerProvider, end func(), err error) {
	if !o.traced(os.Getenv) {
		return nil, func() {}, nil
	}
	var to []otlptracehttp.Option
	if o.otlpEndpoint != "" {
		u, err := url.Parse(o.otlpEndpoint)
		if err != nil {
			return nil, nil, fmt.Errorf("--otlp-endpoint: %w", err)
		}
		to = append(to, otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()))
	}
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return nil, nil, fmt.Errorf("exporting traces: %w", err)
	}
	// The later wins: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "orkestra-"+service),
		attribute.String("service.namespace", "orkestra"),
		attribute.String("k8s.cluster.name", o.clusterName),
	), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("describing the service to traces: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are not exported", "error", err) }))
	sdk := sdktrace.NewTracerProvider(append(sampling(os.Getenv), sdktrace.WithBatcher(exporter), sdktrace.WithResource(described),
		sdktrace.WithIDGenerator(events.TraceIDs{}))...)
	return sdk, func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := sdk.Shutdown(flush); err != nil {
			log.Warn("the last traces are not exported", "error", err)
		}
	}, nil
}
