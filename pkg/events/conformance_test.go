package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// promises are kept by one server and by three.
var promises = []promise{
	{"DuplicatePublish", "what is said twice is stored once, and saying it again is a success", duplicatePublish},
	{"TwoReplicas", "two replicas that say the same are one", twoReplicas},
	{"StaleGeneration", "an older generation does not have the last word", staleGeneration},
	{"Remembered", "what a replica remembers to have said is no more than a guess at what the stream has", remembered},
	{"Emission", "what a handler returns is said with its cause and its story", emission},
	{"TooLarge", "an event that does not fit is an error that names its size", tooLarge},
	{"Redelivery", "an error is tried again", redelivery},
	{"DeathBeforeAck", "a death between publish and acknowledgement repeats the handler, not the fact", deathBeforeAck},
	{"SlowHandler", "a handler that takes longer than AckWait runs once", slowHandler},
	{"HangingHandler", "a handler has its time, and then the event is tried again", hangingHandler},
	{"Afterwards", "what a handler puts off is done when its facts are stored; where that fails the event comes back", puttingOff},
	{"AfterwardsNeedsNoWorker", "what a handler puts off may wait, and its worker goes on", waiting},
	{"Poison", "what cannot be read becomes a dead letter, and the next one is handled", poison},
	{"KillsItsHandler", "an event that never comes back is buried before it kills again", killsItsHandler},
	{"Panic", "a panic is a failed attempt of one event, not the end of the service", panicking},
	{"Terminal", "a terminal failure can be shown, replayed and discarded", terminal},
	{"GoneMeanwhile", "reading what there is ends where the rest of it goes meanwhile", goneMeanwhile},
	{"LargeLetter", "an event that fills its message can be buried all the same", largeLetter},
	{"ReplayStale", "a letter about an older generation is not replayed over a newer one", replayStale},
	{"RetryAfter", "waiting takes its time, and is not counted as failing", retryAfter},
	{"Away", "waiting for what is out of reach is not failing either", away},
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

func TestReplicasThatCannotBe(t *testing.T) {
	t.Parallel()
	b, err := events.Connect(t.Context(), events.Options{
		URL: eventstest.Single(t).URL(), Source: "orkestra://test/stager", Replicas: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if err := b.EnsureTopology(t.Context()); err == nil || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("three replicas on one server: %v", err)
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
	const groups, generations = 10, 6
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, b := range replicas {
		for g := range groups {
			for generation := range int64(generations) {
				wg.Go(func() {
					<-start
					// A replica that is behind hears that it is.
					err := b.Say(t.Context(), desired(fmt.Sprintf("g%d", g), generation+1))
					if err != nil && !events.IsSuperseded(err) {
						t.Error(err)
					}
				})
			}
		}
	}
	close(start)
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
		if n := last[fmt.Sprintf("g%d", g)]; n != generations {
			t.Errorf("the last word about g%d is generation %d, want %d", g, n, generations)
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

func remembered(t *testing.T, e *env) {
	a, b := e.bus(t, "intake"), e.bus(t, "intake")
	say(t, a, desired("g", 1))
	say(t, b, desired("g", 2), desired("g", 3))
	say(t, a, desired("g", 4)) // over what it remembers
	for _, stale := range []int64{1, 3} {
		if err := a.Say(t.Context(), desired("g", stale)); !events.IsSuperseded(err) {
			t.Errorf("generation %d after 4: %v", stale, err)
		}
	}
	if n := e.stored(t, events.StreamEvents); n != 4 {
		t.Errorf("%d events are stored, want 4", n)
	}
	if err := e.js(t).DeleteStream(t.Context(), events.StreamEvents); err != nil {
		t.Fatal(err)
	}
	say(t, a, desired("g", 4), desired("g", 4), desired("g", 5))
	if n := e.stored(t, events.StreamEvents); n != 2 {
		t.Errorf("%d events are stored in the new stream, want what was said since", n)
	}
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
