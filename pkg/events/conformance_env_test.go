package events_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// These tests wait for servers and timers rather than for a processor, so there
// may be more of them at a time. A -parallel on the command line wins.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}

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

func (e *env) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// bus connects as a service; logs and metrics go to the env.
func (e *env) bus(t *testing.T, service string, edit ...func(*events.Options)) *events.Bus {
	t.Helper()
	return eventstest.Bus(t, e.url(), service, append([]func(*events.Options){func(o *events.Options) {
		o.Logger = e.logger()
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

// awaitLetters waits for the letters that there have to be: a replica of a cluster may be
// read before it has what was stored.
func awaitLetters(t *testing.T, b *events.Bus, n int) []events.DeadLetter {
	t.Helper()
	var all []events.DeadLetter
	eventstest.Eventually(t, timeout, fmt.Sprintf("there are %d dead letters", n), func() bool {
		all = letters(t, b)
		return len(all) == n
	})
	return all
}

func oneLetter(t *testing.T, b *events.Bus) events.DeadLetter {
	t.Helper()
	return awaitLetters(t, b, 1)[0]
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
