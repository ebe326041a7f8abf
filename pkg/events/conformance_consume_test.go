package events_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

func redelivery(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	var seen calls
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 2, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		if seen.add(f) < 3 {
			return []events.Fact{staged(f.Rollout)}, errors.New("not yet")
		}
		return nil, nil
	})
	seen.await(t, 3)
	e.settled(t, "stager")
	for i, f := range seen.facts {
		if f.Attempt != uint64(i+1) || f.EventID() != desired("g", 1).EventID() {
			t.Errorf("delivery %d is %+v", i+1, f)
		}
	}
	if n := e.stored(t, events.StreamEvents); n != 1 {
		t.Errorf("%d events are stored: what comes with an error is not said", n)
	}
	if r, d := e.handled(t, "retried"), e.handled(t, "done"); r != 2 || d != 1 {
		t.Errorf("%d retried and %d done, want 2 and 1", r, d)
	}
}

func deathBeforeAck(t *testing.T, e *env) {
	cut := cutBefore(t, "+ACK", e.servers.Addr(0))
	var seen calls
	handler := func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		return []events.Fact{staged(f.Rollout)}, nil
	}
	survivor := e.bus(t, "stager")
	victim, err := events.Connect(t.Context(), events.Options{
		URL: fmt.Sprintf("nats://u%d:p@%s", e.account, cut.addr), Source: "orkestra://test/stager",
	})
	if err != nil {
		t.Fatal(err)
	}
	say(t, survivor, desired("g", 1))
	stop := consume(t, victim, "stager", 1, handler)
	select {
	case <-cut.done: // published, and dead before the acknowledgement left
	case <-time.After(timeout):
		t.Fatal("the victim did not acknowledge")
	}
	_ = victim.Close()
	_ = stop()
	consume(t, survivor, "stager", 1, handler)
	seen.await(t, 2)
	e.settled(t, "stager")
	if n := e.stored(t, events.StreamEvents); n != 2 {
		t.Errorf("%d events are stored, want the cause and one effect", n)
	}
}

func slowHandler(t *testing.T, e *env) {
	const ackWait = time.Second
	b := e.bus(t, "stager", func(o *events.Options) { o.Topology.Consumers[0].AckWait = ackWait })
	var seen calls
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 4, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		select {
		case <-time.After(5 * ackWait / 2): // it is slow, that is its part
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	})
	seen.await(t, 1)
	e.settled(t, "stager")
	if n := seen.count(); n != 1 {
		t.Errorf("the handler ran %d times", n)
	}
}

func hangingHandler(t *testing.T, e *env) {
	b := e.bus(t, "stager", func(o *events.Options) { o.HandleTimeout = 50 * time.Millisecond })
	var seen calls
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 1, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		if seen.add(f) == 1 {
			<-ctx.Done()
		}
		return nil, ctx.Err()
	})
	seen.await(t, 2)
	e.settled(t, "stager")
	if n := e.handled(t, "retried"); n != 1 {
		t.Errorf("%d deliveries were retried, want 1", n)
	}
}

func poison(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	js := e.js(t)
	for _, data := range []string{
		"garbage",
		`{"specversion":"1.0","id":"1","source":"s","type":"dev.orkestra.group.renamed.v1","data":{}}`,
		`{"specversion":"1.0","id":"2","source":"s","type":"dev.orkestra.group.desired.v1","data":{}}`,
		`{"specversion":"1.0","id":"3","source":"s","type":"dev.orkestra.group.desired.v1","data":{"rollout":{"group":"other","uid":"u","generation":1}}}`,
	} {
		if _, err := js.Publish(t.Context(), "orkestra.v1.group.g", []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	say(t, b, desired("g", 1))
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		return nil, nil
	})
	e.settled(t, "stager")
	var reasons []string
	for _, l := range letters(t, b) {
		reasons = append(reasons, l.Reason)
		if l.Consumer != "stager" || l.Subject != "orkestra.v1.group.g" || l.Deliveries != 1 || l.StreamSequence == 0 || l.Error == "" {
			t.Errorf("the letter is %+v", l)
		}
	}
	want := []string{events.ReasonNotACloudEvent, events.ReasonUnknownType, events.ReasonBadPayload, events.ReasonSubjectMismatch}
	if fmt.Sprint(reasons) != fmt.Sprint(want) {
		t.Errorf("the letters' reasons are %v, want %v", reasons, want)
	}
	if n := seen.count(); n != 1 {
		t.Errorf("the handler ran %d times, want once, for the good one", n)
	}
}

func killsItsHandler(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	say(t, b, desired("g", 1))
	// Ten processes take the event and die: from the outside, ten deliveries.
	c, err := e.js(t).Consumer(t.Context(), events.StreamEvents, "stager")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		msg, err := c.Next(jetstream.FetchMaxWait(timeout))
		if err != nil {
			t.Fatal(err)
		}
		if err := msg.Nak(); err != nil {
			t.Fatal(err)
		}
	}
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		return nil, nil
	})
	if l := oneLetter(t, b); l.Reason != events.ReasonTooManyAttempts || l.Deliveries != 11 {
		t.Errorf("the letter is %+v", l)
	}
	e.settled(t, "stager")
	if n := seen.count(); n != 0 {
		t.Errorf("the handler was called %d times", n)
	}
}

func panicking(t *testing.T, e *env) {
	b := e.bus(t, "stager", func(o *events.Options) { o.MaxAttempts = 3 })
	say(t, b, desired("bad", 1), desired("good", 1))
	var bad, good calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		if f.Rollout.Group == "good" {
			good.add(f)
			return nil, nil
		}
		bad.add(f)
		panic("boom")
	})
	l := oneLetter(t, b)
	if l.Reason != events.ReasonTooManyAttempts || l.Error != "panic: boom" || l.Deliveries != 3 {
		t.Errorf("the letter is %+v", l)
	}
	e.settled(t, "stager")
	if bad.count() != 3 || good.count() != 1 {
		t.Errorf("%d attempts of the bad event and %d of the good one, want 3 and 1", bad.count(), good.count())
	}
	if !strings.Contains(e.logs.String(), "conformance_consume_test.go") {
		t.Error("the log does not say where the handler panicked")
	}
}

func retryAfter(t *testing.T, e *env) {
	const waits, attempts, delay = 6, 2, 200 * time.Millisecond
	b := e.bus(t, "stager", func(o *events.Options) { o.MaxAttempts = attempts })
	say(t, b, desired("g", 1))
	var seen calls
	handler := func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		switch n := seen.add(f); {
		case n == 1:
			return nil, events.RetryAfter(delay, errors.New("the registry says 429"))
		case n <= waits:
			return nil, events.RetryAfter(time.Millisecond, nil)
		default:
			return nil, errors.New("now it fails")
		}
	}
	stop := consume(t, b, "stager", 1, handler)
	seen.await(t, waits/2)
	if err := stop(); err != nil { // the count is not in this process
		t.Error(err)
	}
	consume(t, e.bus(t, "stager", func(o *events.Options) { o.MaxAttempts = attempts }), "stager", 1, handler)
	l := oneLetter(t, b)
	e.settled(t, "stager")
	if l.Reason != events.ReasonTooManyAttempts || !strings.Contains(l.Error, "now it fails") {
		t.Errorf("the letter is %+v", l)
	}
	// A delivery that was on its way when the first consumer stopped reaches nobody,
	// and is an attempt that failed: then the handler sees one failure less.
	if n := seen.count(); n <= waits || n > waits+attempts {
		t.Errorf("the handler ran %d times, want %d waiting and up to %d failing", n, waits, attempts)
	}
	if d := seen.times[1].Sub(seen.times[0]); d < delay {
		t.Errorf("the second delivery came after %s, want %s", d, delay)
	}
}

func away(t *testing.T, e *env) {
	const visits, attempts = 6, 2
	gone, broken := errors.New("no route to the API server"), errors.New("a plan that cannot be read")
	b := e.bus(t, "stager", func(o *events.Options) {
		o.MaxAttempts = attempts
		o.Away = func(err error) bool { return errors.Is(err, gone) }
	})
	say(t, b, desired("g", 1))
	var seen calls
	consume(t, b, "stager", 1, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		switch n := seen.add(f); {
		case n < visits/2:
			return nil, fmt.Errorf("reading the group: %w", gone)
		case n <= visits: // what is put off finds it as well
			return []events.Fact{staged(f.Rollout)}, events.Afterwards(ctx, func(context.Context) error { return gone })
		default:
			return nil, broken
		}
	})
	l := oneLetter(t, b)
	e.settled(t, "stager")
	if l.Reason != events.ReasonTooManyAttempts || !strings.Contains(l.Error, broken.Error()) {
		t.Errorf("the letter is %+v", l)
	}
	if n := seen.count(); n != visits+attempts {
		t.Errorf("the handler ran %d times, want %d while the world was away and %d failing", n, visits, attempts)
	}
	if n := e.handled(t, "waiting"); n != visits {
		t.Errorf("%d deliveries waited, want %d", n, visits)
	}
}

func waitedTooLong(t *testing.T, e *env) {
	b := e.bus(t, "stager", func(o *events.Options) { o.MaxWait = 300 * time.Millisecond })
	say(t, b, desired("g", 1))
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		return nil, events.RetryAfter(50*time.Millisecond, errors.New("still not there"))
	})
	if l := oneLetter(t, b); l.Reason != events.ReasonWaitedTooLong || !strings.Contains(l.Error, "still not there") {
		t.Errorf("the letter is %+v", l)
	}
}

func superseded(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	say(t, b, desired("g", 1), desired("h", 2))
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		if f.Rollout.Group == "g" {
			return []events.Fact{staged(f.Rollout)}, events.Superseded("generation 2")
		}
		// What the handler says may be what is stale.
		return []events.Fact{desired("h", 1), staged(f.Rollout)}, nil
	})
	e.settled(t, "stager")
	eventstest.Eventually(t, timeout, "both are counted", func() bool { return e.handled(t, "superseded") == 2 })
	if n := e.stored(t, events.StreamEvents); n != 3 || seen.count() != 2 {
		t.Errorf("%d events are stored and %d calls, want 3 and 2", n, seen.count())
	}
	if all := letters(t, b); len(all) != 0 {
		t.Errorf("there are letters: %+v", all)
	}
}

func gracefulDrain(t *testing.T, e *env) {
	const total = 12
	first, second := e.bus(t, "stager"), e.bus(t, "stager")
	for i := range total {
		say(t, first, desired(fmt.Sprintf("g%d", i), 1))
	}
	var seen calls
	inHand, finish := make(chan struct{}, total), make(chan struct{})
	handler := func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		inHand <- struct{}{}
		<-finish
		if ctx.Err() != nil { // taken away, where it had time
			return nil, ctx.Err()
		}
		seen.add(f)
		return []events.Fact{staged(f.Rollout)}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- first.Consume(ctx, "stager", 2, handler) }()
	<-inHand
	<-inHand
	cancel()
	select {
	case err := <-done:
		t.Fatalf("Consume left what was in hand: %v", err)
	case <-time.After(50 * time.Millisecond): // a moment in which it must not return
	}
	close(finish)
	if err := <-done; err != nil {
		t.Errorf("Consume: %v", err)
	}
	if n := seen.count(); n != 2 {
		t.Errorf("%d events were handled, want the 2 in hand", n)
	}
	consume(t, second, "stager", 4, handler)
	e.settled(t, "stager")
	if n := seen.count(); n != total {
		t.Errorf("the handlers ran %d times for %d events", n, total)
	}
	if n := e.stored(t, events.StreamEvents); n != 2*total {
		t.Errorf("%d events are stored, want %d", n, 2*total)
	}
}

func graceIsOver(t *testing.T, e *env) {
	// AckWait is long: it is not what brings the event back.
	edit := func(o *events.Options) {
		o.Topology.Consumers[0].AckWait = time.Minute
		o.MaxAttempts = 1
		o.Grace = 50 * time.Millisecond
	}
	b := e.bus(t, "stager", edit)
	say(t, b, desired("g", 1))
	var seen calls
	handler := func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		if seen.add(f) <= 2 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []events.Fact{staged(f.Rollout)}, nil
	}
	for i := range 2 {
		stop := consume(t, b, "stager", 1, handler)
		seen.await(t, i+1)
		if err := stop(); err != nil {
			t.Errorf("Consume: %v", err)
		}
	}
	consume(t, e.bus(t, "stager", edit), "stager", 1, handler)
	seen.await(t, 3)
	e.settled(t, "stager")
	if all := letters(t, b); len(all) != 0 {
		t.Errorf("shutdowns were counted as failures: %+v", all)
	}
	if n := e.stored(t, events.StreamEvents); n != 2 {
		t.Errorf("%d events are stored, want 2", n)
	}
}

// restart takes a server away in the middle: the only one, or the stream's leader.
func restart(t *testing.T, e *env) {
	const total = 60
	b := e.bus(t, "intake")
	var mu sync.Mutex
	seen := map[string]int{}
	consume(t, e.bus(t, "stager"), "stager", 4, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		mu.Lock()
		seen[f.Rollout.Group]++
		mu.Unlock()
		return []events.Fact{staged(f.Rollout)}, nil
	})
	half, down, said := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(said)
		for i := range total {
			if i == total/2 {
				close(half)
				<-down
			}
			if err := b.Say(t.Context(), desired(fmt.Sprintf("g%d", i), 1)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	<-half
	leader := -1
	eventstest.Eventually(t, timeout, "the stream has a leader", func() bool {
		leader = e.servers.StreamLeader(e.account, events.StreamEvents)
		return leader >= 0
	})
	e.servers.Stop(leader)
	close(down)
	e.servers.Start(leader)
	<-said
	eventstest.Eventually(t, timeout, "everything is handled", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == total })
	e.settled(t, "stager")
	if n := e.stored(t, events.StreamEvents); n != 2*total {
		t.Errorf("%d events are stored, want %d and as many effects", n, total)
	}
	eventstest.Eventually(t, timeout, "it is ready again", func() bool { return b.Ready() == nil })
}
