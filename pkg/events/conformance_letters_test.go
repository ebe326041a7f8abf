package events_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

func terminal(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	say(t, b, desired("a.b", 1), desired("c", 1))
	var healed atomic.Bool
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		if healed.Load() {
			return []events.Fact{staged(f.Rollout)}, nil
		}
		return nil, events.Terminal("BadChart", errors.New("no Chart.yaml\nin it"))
	})
	e.settled(t, "stager")
	all := awaitLetters(t, b, 2)
	if seen.count() != 2 {
		t.Fatalf("2 letters after %d calls, want 2", seen.count())
	}
	l := all[0]
	if l.Reason != "BadChart" || l.Error != "BadChart: no Chart.yaml in it" || l.StreamSequence != 1 || l.StreamTime.IsZero() || l.Time.IsZero() {
		t.Errorf("the letter is %+v", l)
	}
	if f, err := l.Fact(); err != nil || f.EventID() != desired("a.b", 1).EventID() {
		t.Errorf("the letter's fact is %+v, %v", f, err)
	}
	eventstest.Eventually(t, timeout, "the letters of c are the second one", func() bool {
		var ofGroup []uint64
		err := b.DeadLetters(t.Context(), events.DeadLetterFilter{Group: "c", Consumer: "stager"}, func(l events.DeadLetter) error {
			ofGroup = append(ofGroup, l.Sequence)
			return nil
		})
		return err == nil && slices.Equal(ofGroup, []uint64{all[1].Sequence})
	})

	healed.Store(true)
	if err := b.Replay(t.Context(), l.Sequence); err != nil {
		t.Fatal(err)
	}
	seen.await(t, 3)
	e.settled(t, "stager")
	if id := seen.facts[2].EventID(); id != desired("a.b", 1).EventID() || seen.facts[2].Attempt != 1 {
		t.Errorf("replayed was %+v", seen.facts[2])
	}
	if err := b.Discard(t.Context(), all[1].Sequence); err != nil {
		t.Error(err)
	}
	awaitLetters(t, b, 0)
	for name, err := range map[string]error{
		"Replay":  b.Replay(t.Context(), l.Sequence),
		"Discard": b.Discard(t.Context(), l.Sequence),
	} {
		if !errors.Is(err, events.ErrNotFound) {
			t.Errorf("%s of a letter that is gone: %v", name, err)
		}
	}
	if _, err := b.DeadLetter(t.Context(), 99); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("showing a letter that never was: %v", err)
	}
}

// The server counts a letter that is still there when the reader's consumer is made, and has none when that asks
// for it.
func goneMeanwhile(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 1, func(context.Context, events.Fact) ([]events.Fact, error) {
		return nil, events.Terminal("Bad", nil)
	})
	sequence := oneLetter(t, b).Sequence
	discarded := make(chan error, 1)
	addr := firstBefore(t, ".MSG.NEXT."+events.StreamDeadLetters, e.servers.Addr(0), func() {
		discarded <- b.Discard(t.Context(), sequence)
	})
	reader, err := events.Connect(t.Context(), events.Options{
		URL: fmt.Sprintf("nats://u%d:p@%s", e.account, addr), Source: "orkestra://test/reader",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	// A replica of a cluster may have the letter still.
	if err := reader.DeadLetters(ctx, events.DeadLetterFilter{}, func(events.DeadLetter) error { return nil }); err != nil {
		t.Error(err)
	}
	if ctx.Err() != nil {
		t.Error("reading the letters does not end")
	}
	if err := <-discarded; err != nil {
		t.Error(err)
	}
}

func largeLetter(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	fact := events.New(events.Rollout{Group: "g", UID: "u", Generation: 1}, events.GroupRejected{Reason: "Large"})
	for size := 1<<20 - 1024; ; size -= 64 { // the largest that can be said
		fact.Data = events.GroupRejected{Reason: "Large", Message: strings.Repeat("x", size)}
		err := b.Say(t.Context(), fact)
		if err == nil {
			break
		}
		if !events.IsTerminal(err) {
			t.Fatal(err)
		}
	}
	var healed atomic.Bool
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		if healed.Load() {
			return nil, nil
		}
		return nil, events.Terminal("Bad", errors.New(strings.Repeat("y", 1<<20)))
	})
	l := oneLetter(t, b)
	if f, err := l.Fact(); err != nil || f.EventID() != fact.EventID() {
		t.Errorf("the letter's fact: %v, %v", f.EventID(), err)
	}
	healed.Store(true)
	if err := b.Replay(t.Context(), l.Sequence); err != nil {
		t.Fatal(err)
	}
	seen.await(t, 2)
	if seen.facts[1].Data != fact.Data {
		t.Error("replayed was another event")
	}
}

func replayStale(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		if f.Rollout.Generation == 1 {
			return nil, events.Terminal("Bad", nil)
		}
		return nil, nil
	})
	l := oneLetter(t, b)
	say(t, b, desired("g", 2))
	if err := b.Replay(t.Context(), l.Sequence); !events.IsSuperseded(err) {
		t.Errorf("Replay: %v, want superseded", err)
	}
	if all := letters(t, b); len(all) != 1 {
		t.Errorf("%d letters are left, want the stale one", len(all))
	}
}

func follow(t *testing.T, e *env) {
	b := e.bus(t, "cli")
	empty := func(events.Fact, []byte) error { return errors.New("there is nothing") }
	if err := b.Follow(t.Context(), events.FollowOptions{}, empty); err != nil {
		t.Errorf("following an empty stream: %v", err)
	}
	start := time.Now()
	say(t, b, desired("a", 1), desired("a.b", 1), staged(desired("a", 1).Rollout))
	if _, err := e.js(t).Publish(t.Context(), "orkestra.v1.group.a", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	list := func(o events.FollowOptions) string {
		t.Helper()
		var ids []string
		if err := b.Follow(t.Context(), o, func(f events.Fact, raw []byte) error {
			if len(raw) == 0 {
				t.Error("there are no bytes")
			}
			ids = append(ids, strings.SplitN(f.ID, "/", 2)[0]+"@"+f.Rollout.Group)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return strings.Join(ids, " ")
	}
	for _, c := range []struct {
		options events.FollowOptions
		want    string
	}{
		{events.FollowOptions{}, "group.desired@a group.desired@a.b charts.staged@a @"},
		{events.FollowOptions{Group: "a"}, "group.desired@a charts.staged@a @"},
		{events.FollowOptions{Group: "a.b", Since: start.Add(-time.Hour)}, "group.desired@a.b"},
		{events.FollowOptions{Types: []events.Type{events.TypeGroupDesired, events.TypeGroupDeleted}}, "group.desired@a group.desired@a.b"},
		{events.FollowOptions{Since: start.Add(time.Hour)}, ""},
		{events.FollowOptions{Group: "nobody"}, ""},
	} {
		if got := list(c.options); got != c.want {
			t.Errorf("Follow(%+v) shows %q, want %q", c.options, got, c.want)
		}
	}
	stop := errors.New("enough")
	if err := b.Follow(t.Context(), events.FollowOptions{}, func(events.Fact, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Follow: %v, want the caller's error", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard, done := make(chan events.Fact, 10), make(chan error, 1)
	go func() {
		done <- b.Follow(ctx, events.FollowOptions{Group: "live", Follow: true}, func(f events.Fact, _ []byte) error {
			heard <- f
			return nil
		})
	}()
	for i := range int64(3) {
		say(t, b, desired("live", i+1))
		select {
		case f := <-heard:
			if f.Rollout.Generation != i+1 {
				t.Errorf("heard generation %d, want %d", f.Rollout.Generation, i+1)
			}
		case <-time.After(timeout):
			t.Fatal("what was said is not heard")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Follow: %v", err)
	}
}

func topology(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	var wg sync.WaitGroup
	for range 5 {
		other := e.bus(t, "compiler", func(o *events.Options) { o.Replicas = 0 })
		wg.Go(func() {
			if err := other.EnsureTopology(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	js := e.js(t)
	for _, want := range events.DefaultTopology().Streams {
		s, err := js.Stream(t.Context(), want.Name)
		if err != nil {
			t.Fatal(err)
		}
		got := s.CachedInfo().Config
		if got.Replicas != e.servers.Nodes() || got.MaxAge != want.MaxAge || got.Retention != want.Retention || got.DenyDelete != want.DenyDelete {
			t.Errorf("stream %s is %+v", want.Name, got)
		}
	}
	if err := b.Consume(t.Context(), "nobody", 1, nil); err == nil {
		t.Error("a consumer that is not in the table consumes")
	}
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		return nil, nil
	})
	say(t, b, desired("g", 1))
	seen.await(t, 1)
	e.settled(t, "stager")
	// All of NATS is lost: history is gone, and it goes on.
	for _, s := range events.DefaultTopology().Streams {
		if err := js.DeleteStream(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
	}
	say(t, b, desired("g", 1))
	seen.await(t, 2)
	e.settled(t, "stager")
}

func canary(t *testing.T, e *env) {
	const secret = "c4n4ry"
	b := e.bus(t, "stager", func(o *events.Options) { o.MaxAttempts = 2 })
	say(t, b, desired("g", 1))
	consume(t, b, "stager", 1, func(context.Context, events.Fact) ([]events.Fact, error) {
		return nil, fmt.Errorf("Get \"https://user:%s@charts.example.com/index.yaml\": 401", secret)
	})
	l := oneLetter(t, b)
	e.settled(t, "stager")
	if strings.Contains(fmt.Sprintf("%+v", l), secret) || !strings.Contains(l.Error, "charts.example.com") {
		t.Errorf("the letter's error is %q", l.Error)
	}
	eventstest.Eventually(t, timeout, "the outcome is logged", func() bool { return strings.Contains(e.logs.String(), "outcome=dead") })
	if strings.Contains(e.logs.String(), secret) {
		t.Errorf("the log is\n%s", e.logs)
	}
}
