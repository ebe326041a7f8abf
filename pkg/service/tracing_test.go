package service

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// collected are the spans that an OTLP endpoint was sent.
type collected struct {
	mu    sync.Mutex
	spans map[string]*otlp.Span // by name
	from  map[string]string     // service.name, by the span's name
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "no traces", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		service := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans[span.Name], c.from[span.Name] = span, service
			}
		}
	}
}

// heard is what service says when it hears a type.
type heard struct {
	service string
	hears   events.Type
	says    events.Payload
}

// TestARolloutIsOneStory plays a rollout that a webhook asked for on a real server, each
// service with the provider that its flags give it, and reads its spans at a real endpoint.
func TestARolloutIsOneStory(t *testing.T) {
	c := &collected{spans: map[string]*otlp.Span{}, from: map[string]string{}}
	endpoint := httptest.NewServer(c)
	defer endpoint.Close()
	nats := eventstest.Single(t)
	rollout := events.Rollout{Group: "g", UID: "u", Generation: 1}

	var ends []func()
	bus := func(service string) *events.Bus {
		o := options{otlpEndpoint: endpoint.URL, clusterName: "test"}
		provider, end, err := o.tracing(t.Context(), service, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
		return eventstest.Bus(t, nats.URL(), service, func(o *events.Options) { o.TracerProvider = provider })
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	submitted, done := make(chan struct{}), make(chan struct{})
	watcher := bus("watcher")
	for _, h := range []heard{
		{"stager", events.TypeGroupDesired, events.ChartsStaged{}},
		{"compiler", events.TypeChartsStaged, events.WorkflowSubmitted{}},
		{"executor", events.TypeNodeStarted, nil},
		{"intake", events.TypeRolloutSucceeded, nil},
	} {
		b := bus(h.service)
		running.Go(func() {
			if err := b.Consume(ctx, h.service, 1, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
				switch {
				case h.service == "executor" && f.Type() == events.TypeWorkflowSubmitted:
					close(submitted)
					return nil, nil
				case f.Type() != h.hears:
					return nil, nil
				case h.says != nil:
					return []events.Fact{events.New(f.Rollout, h.says)}, nil
				case h.service == "executor": // the release is made; the watcher sees what becomes of it
					return nil, watcher.Say(t.Context(), events.New(f.Rollout, events.ReleaseReady{}), events.New(f.Rollout, events.RolloutSucceeded{}))
				}
				close(done)
				return nil, nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	webhook := events.Fact{Data: events.WebhookReceived{Receiver: "r", Namespace: "n", ReceiverUID: "x", Delivery: "1"}}
	desired := events.New(rollout, events.GroupDesired{})
	desired.CausationID = webhook.EventID()
	say := func(b *events.Bus, facts ...events.Fact) {
		t.Helper()
		if err := b.Say(t.Context(), facts...); err != nil {
			t.Fatal(err)
		}
	}
	await := func(what <-chan struct{}) {
		t.Helper()
		select {
		case <-what:
		case <-time.After(20 * time.Second):
			t.Fatal("the rollout does not end")
		}
	}
	say(bus("intake"), webhook, desired)
	say(bus("intake"), desired) // a second replica
	await(submitted)
	say(watcher, events.New(rollout, events.NodeStarted{})) // it saw the workflow; nobody told it
	await(done)
	stop()
	running.Wait()
	for _, end := range ends {
		end()
	}
	c.check(t, webhook.EventID())
}

func (c *collected) check(t *testing.T, webhook string) {
	root := c.spans["say group.desired"]
	if root == nil || len(root.ParentSpanId) != 0 {
		t.Fatalf("the story has no beginning: %v", root)
	}
	for name, service := range map[string]string{
		"say group.desired": "intake", "stager group.desired": "stager", "say charts.staged": "stager",
		"compiler charts.staged": "compiler", "say workflow.submitted": "compiler", "executor node.started": "executor",
		"say release.ready": "watcher", "say rollout.succeeded": "watcher", "intake rollout.succeeded": "intake",
	} {
		span := c.spans[name]
		if span == nil {
			t.Errorf("there is no span %q", name)
			continue
		}
		if string(span.TraceId) != string(root.TraceId) || c.from[name] != "orkestra-"+service {
			t.Errorf("%q is of %s, in another trace: %x", name, c.from[name], span.TraceId)
		}
	}
	for cause, effect := range map[string]string{
		"say group.desired": "stager group.desired", "say charts.staged": "compiler charts.staged",
		"say rollout.succeeded": "intake rollout.succeeded", "say webhook.received": "say group.desired",
	} {
		if !linked(c.spans[effect], c.spans[cause]) {
			t.Errorf("%q is not linked to %q, its cause", effect, cause)
		}
	}
	if told := c.spans["say webhook.received"]; told == nil || string(told.TraceId) == string(root.TraceId) {
		t.Errorf("the webhook %s is no story of its own: %v", webhook, told)
	}
	for name, span := range c.spans {
		if took := time.Duration(span.EndTimeUnixNano - span.StartTimeUnixNano); took > 10*time.Second {
			t.Errorf("%q takes %s: a span is a hop, not a rollout", name, took)
		}
		if parent := c.named(span.ParentSpanId); len(span.ParentSpanId) > 0 && parent == "" {
			t.Errorf("the parent of %q is in no span: %s", name, hex.EncodeToString(span.ParentSpanId))
		}
	}
}

func (c *collected) named(id []byte) string {
	for name, span := range c.spans {
		if string(span.SpanId) == string(id) {
			return name
		}
	}
	return ""
}

func linked(effect, cause *otlp.Span) bool {
	if effect == nil || cause == nil {
		return false
	}
	for _, l := range effect.Links {
		if string(l.SpanId) == string(cause.SpanId) && string(l.TraceId) == string(cause.TraceId) {
			return true
		}
	}
	return false
}

// Where nobody listens nothing is made.
func TestNothingIsTracedUnlessAsked(t *testing.T) {
	for name, tt := range map[string]struct {
		flag string
		env  map[string]string
		want bool
	}{
		"nothing":    {"", nil, false},
		"the flag":   {"http://c:4318", nil, true},
		"a variable": {"", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, true},
		"for traces": {"", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/x"}, true},
		"disabled":   {"http://c:4318", map[string]string{"OTEL_SDK_DISABLED": "true"}, false},
		"none":       {"http://c:4318", map[string]string{"OTEL_TRACES_EXPORTER": "none"}, false},
	} {
		o := options{otlpEndpoint: tt.flag}
		if got := o.traced(func(k string) string { return tt.env[k] }); got != tt.want {
			t.Errorf("%s: traced is %t, want %t", name, got, tt.want)
		}
	}
	o := options{otlpEndpoint: "collector?token=s3cret"}
	if err := validEndpoint(o.otlpEndpoint); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a bad endpoint: %v", err)
	}
}
