package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// timeout of everything that has to happen; nothing waits for it in vain.
const timeout = 20 * time.Second

// promise is one thing that the package promises, whatever the servers are.
type promise struct {
	name, reason string
	test         func(*testing.T, *env)
}

// env is what one test has: an account of its own on servers that it shares.
type env struct {
	servers *eventstest.Servers
	account int
	logs    *buffer
	metrics *prometheus.Registry
}

func (e *env) url() string { return e.servers.Account(e.account) }

// bus connects as a service; logs and metrics go to the env.
func (e *env) bus(t *testing.T, service string, edit ...func(*events.Options)) *events.Bus {
	t.Helper()
	return eventstest.Bus(t, e.url(), service, append([]func(*events.Options){func(o *events.Options) {
		o.Logger = slog.New(slog.NewTextHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Registerer = e.metrics
		o.Replicas = e.servers.Nodes()
	}}, edit...)...)
}

// handled is the counter orkestra_events_handled_total of an outcome, all types.
func (e *env) handled(t *testing.T, outcome string) (n int) {
	t.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "orkestra_events_handled_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" && l.GetValue() == outcome {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// js is JetStream without this package.
func (e *env) js(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(e.url(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func (e *env) stored(t *testing.T, stream string) int {
	t.Helper()
	s, err := e.js(t).Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// settled waits until the consumer has acknowledged the last event on its
// subjects, and everything before it. (That nothing is pending is no proof on a
// cluster, where a consumer's leader hears of an event after its publisher.)
func (e *env) settled(t *testing.T, consumer string) {
	t.Helper()
	js := e.js(t)
	eventstest.Eventually(t, timeout, consumer+" is done with everything", func() bool {
		c, err := js.Consumer(t.Context(), events.StreamEvents, consumer)
		if err != nil {
			return false
		}
		s, err := js.Stream(t.Context(), events.StreamEvents)
		if err != nil {
			return false
		}
		last := uint64(0)
		for _, filter := range c.CachedInfo().Config.FilterSubjects {
			if msg, err := s.GetLastMsgForSubject(t.Context(), filter); err == nil {
				last = max(last, msg.Sequence)
			} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
				return false
			}
		}
		info := c.CachedInfo()
		return info.AckFloor.Stream >= last && info.NumAckPending == 0
	})
}

func letters(t *testing.T, b *events.Bus) (all []events.DeadLetter) {
	t.Helper()
	if err := b.DeadLetters(t.Context(), events.DeadLetterFilter{}, func(l events.DeadLetter) error {
		all = append(all, l)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// oneLetter waits for the one letter that there has to be.
func oneLetter(t *testing.T, b *events.Bus) events.DeadLetter {
	t.Helper()
	var all []events.DeadLetter
	eventstest.Eventually(t, timeout, "there is one dead letter", func() bool {
		all = letters(t, b)
		return len(all) == 1
	})
	return all[0]
}

func say(t *testing.T, b *events.Bus, facts ...events.Fact) {
	t.Helper()
	if err := b.Say(t.Context(), facts...); err != nil {
		t.Fatal(err)
	}
}

// consume runs a handler until stop is called or the test ends; stop returns
// what Consume returned.
func consume(t *testing.T, b *events.Bus, consumer string, workers int, h events.Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Consume(ctx, consumer, workers, h) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// log of what a handler saw.
type calls struct {
	mu    sync.Mutex
	facts []events.Fact
	times []time.Time
}

func (c *calls) add(f events.Fact) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.facts = append(c.facts, f)
	c.times = append(c.times, time.Now())
	return len(c.facts)
}

func (c *calls) count() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.facts) }

func (c *calls) await(t *testing.T, n int) {
	t.Helper()
	eventstest.Eventually(t, timeout, fmt.Sprintf("the handler is called %d times", n), func() bool { return c.count() >= n })
}

// buffer is a bytes.Buffer for many writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func desired(group string, generation int64) events.Fact {
	return events.New(events.Rollout{Group: group, UID: "uid-" + group, Generation: generation}, events.GroupDesired{})
}

func staged(r events.Rollout) events.Fact {
	return events.New(r, events.ChartsStaged{Applications: []events.StagedApplication{}})
}

// promises are kept by one server and by three.
var promises = []promise{
	{"DuplicatePublish", "what is said twice is stored once, and saying it again is a success", duplicatePublish},
	{"TwoReplicas", "two replicas that say the same are one", twoReplicas},
	{"StaleGeneration", "an older generation does not have the last word", staleGeneration},
	{"Emission", "what a handler returns is said with its cause and its story", emission},
	{"TooLarge", "an event that does not fit is an error that names its size", tooLarge},
	{"Redelivery", "an error is tried again", redelivery},
	{"DeathBeforeAck", "a death between publish and acknowledgement repeats the handler, not the fact", deathBeforeAck},
	{"SlowHandler", "a handler that takes longer than AckWait runs once", slowHandler},
	{"HangingHandler", "a handler has its time, and then the event is tried again", hangingHandler},
	{"Poison", "what cannot be read becomes a dead letter, and the next one is handled", poison},
	{"KillsItsHandler", "an event that never comes back is buried before it kills again", killsItsHandler},
	{"Panic", "a panic is a failed attempt of one event, not the end of the service", panicking},
	{"Terminal", "a terminal failure can be shown, replayed and discarded", terminal},
	{"LargeLetter", "an event that fills its message can be buried all the same", largeLetter},
	{"ReplayStale", "a letter about an older generation is not replayed over a newer one", replayStale},
	{"RetryAfter", "waiting takes its time, and is not counted as failing", retryAfter},
	{"WaitedTooLong", "waiting ends before the stream forgets", waitedTooLong},
	{"Superseded", "superseded is acknowledged and counted", superseded},
	{"GracefulDrain", "a shutdown finishes what is in hand and leaves the rest", gracefulDrain},
	{"GraceIsOver", "what does not finish in time is given back at once, and is not blamed", graceIsOver},
	{"Follow", "following shows what is there, in order, and then what comes", follow},
	{"Topology", "the topology can be ensured by many, and comes back when lost", topology},
	{"Canary", "no credentials of a URL in a letter or a log", canary},
}

func TestSingleServer(t *testing.T) {
	t.Parallel()
	conformance(t, eventstest.Single(t))
}

func TestCluster(t *testing.T) {
	t.Parallel()
	conformance(t, eventstest.Cluster(t))
}

func TestServerComesLater(t *testing.T) {
	t.Parallel()
	servers := eventstest.Single(t)
	servers.Stop(0)
	b, err := events.Connect(t.Context(), events.Options{URL: servers.URL(), Source: "orkestra://test/stager"})
	if err != nil {
		t.Fatalf("Connect waits for a server: %v", err)
	}
	defer func() { _ = b.Close() }()
	if err := b.Ready(); err == nil {
		t.Error("it is ready without a server")
	}
	ensured, said := make(chan error, 1), make(chan error, 1)
	go func() {
		ensured <- b.EnsureTopology(t.Context())
		said <- b.Say(t.Context(), desired("g", 1))
	}()
	servers.Start(0)
	if err := errors.Join(<-ensured, <-said); err != nil {
		t.Error(err)
	}
	if err := b.Healthz(httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil)); err != nil {
		t.Errorf("Healthz: %v", err)
	}
}

func TestConnectRefusesOptionsThatCannotWork(t *testing.T) {
	for name, o := range map[string]events.Options{
		"NoSource":     {},
		"NoCluster":    {Source: "stager"},
		"NoService":    {Source: "orkestra://prod"},
		"NoCredsFile":  {Source: "orkestra://prod/stager", CredsFile: "does-not-exist"},
		"NoCAFile":     {Source: "orkestra://prod/stager", CAFile: "does-not-exist"},
		"MalformedURL": {Source: "orkestra://prod/stager", URL: "nats://a b"},
	} {
		if b, err := events.Connect(t.Context(), o); err == nil {
			_ = b.Close()
			t.Errorf("%s: Connect says nothing", name)
		}
	}
}

func conformance(t *testing.T, servers *eventstest.Servers) {
	newEnv := func(account int) *env {
		return &env{servers: servers, account: account, logs: &buffer{}, metrics: prometheus.NewRegistry()}
	}
	t.Run("Promises", func(t *testing.T) {
		for i, p := range promises {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				e := newEnv(i + 1)
				defer func() {
					if t.Failed() {
						t.Logf("the promise: %s\n%s", p.reason, e.logs)
					}
				}()
				p.test(t, e)
			})
		}
	})
	// It takes a server from under the others.
	t.Run("Restart", func(t *testing.T) { restart(t, newEnv(len(promises)+1)) })
}

func duplicatePublish(t *testing.T, e *env) {
	a, b := e.bus(t, "stager"), e.bus(t, "stager")
	fact := staged(rollout)
	say(t, a, fact, fact)
	say(t, b, fact)
	say(t, b, events.New(rollout, events.GroupDesired{}), events.New(rollout, events.GroupDesired{}))
	if n := e.stored(t, events.StreamEvents); n != 2 {
		t.Errorf("%d events are stored, want 2", n)
	}
}

func twoReplicas(t *testing.T, e *env) {
	replicas := []*events.Bus{e.bus(t, "intake"), e.bus(t, "intake"), e.bus(t, "intake")}
	const groups = 10
	var wg sync.WaitGroup
	for _, b := range replicas {
		wg.Go(func() {
			for g := range groups {
				for generation := range int64(3) {
					// A replica that is behind hears that it is.
					err := b.Say(t.Context(), desired(fmt.Sprintf("g%d", g), generation+1))
					if err != nil && !events.IsSuperseded(err) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	last := map[string]int64{}
	if err := replicas[0].Follow(t.Context(), events.FollowOptions{}, func(f events.Fact, _ []byte) error {
		seen[f.Source+" "+f.ID]++
		if f.Rollout.Generation < last[f.Rollout.Group] {
			t.Errorf("%s is stored after generation %d", f.ID, last[f.Rollout.Group])
		}
		last[f.Rollout.Group] = f.Rollout.Generation
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s is stored %d times", id, n)
		}
	}
	for g := range groups {
		if n := last[fmt.Sprintf("g%d", g)]; n != 3 {
			t.Errorf("the last word about g%d is generation %d, want 3", g, n)
		}
	}
}

func staleGeneration(t *testing.T, e *env) {
	b := e.bus(t, "intake")
	say(t, b, desired("g", 3))
	err := b.Say(t.Context(), desired("g", 2), staged(rollout))
	if !events.IsSuperseded(err) || !strings.Contains(err.Error(), desired("g", 3).EventID()) {
		t.Errorf("a stale generation: %v, want superseded by generation 3", err)
	}
	if n := e.stored(t, events.StreamEvents); n != 2 {
		t.Errorf("%d events are stored, want 2: the stale one is left out, and what comes after it is said", n)
	}
	again := desired("g", 1) // deleted and made again
	again.Rollout.UID = "another"
	say(t, b, again)
}

func emission(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	const story = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	first := desired("g", 1)
	first.TraceParent = story
	say(t, b, first)
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		return []events.Fact{staged(f.Rollout)}, nil
	})
	e.settled(t, "stager")
	var got events.Fact
	var raw []byte
	if err := b.Follow(t.Context(), events.FollowOptions{Types: []events.Type{events.TypeChartsStaged}}, func(f events.Fact, data []byte) error {
		got, raw = f, data
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got.CausationID != first.EventID() || got.TraceParent != story || got.Source != "orkestra://test/stager" || got.Sequence != 2 {
		t.Errorf("said was %+v", got)
	}
	var event map[string]any
	if err := json.Unmarshal(raw, &event); err != nil {
		t.Fatal(err)
	}
	if event["correlationid"] != first.Rollout.ID() || event["partitionkey"] != first.Rollout.UID {
		t.Errorf("the event is %s", raw)
	}
	s, err := e.js(t).Stream(t.Context(), events.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := s.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/cloudevents+json", "Nats-Msg-Id": staged(first.Rollout).EventID(), "traceparent": story,
	} {
		if got := msg.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if msg.Subject != "orkestra.v1.charts.g" {
		t.Errorf("the subject is %s", msg.Subject)
	}
}

func tooLarge(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	large := events.New(rollout, events.GroupRejected{Reason: "Large", Message: strings.Repeat("x", 1<<20)})
	err := b.Say(t.Context(), large)
	if events.TerminalReason(err) != events.ReasonEventTooLarge || !strings.Contains(err.Error(), large.EventID()) {
		t.Errorf("Say: %v", err)
	}
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 1, func(context.Context, events.Fact) ([]events.Fact, error) {
		return []events.Fact{large}, nil
	})
	if l := oneLetter(t, b); l.Reason != events.ReasonEventTooLarge {
		t.Errorf("the letter's reason is %s", l.Reason)
	}
}
