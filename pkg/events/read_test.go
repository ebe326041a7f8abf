package events_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// reading runs Read until its test ends or stop is called.
func reading(t *testing.T, b *events.Bus, s events.StreamState, from uint64) (heard chan events.Stored, done chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	heard, done = make(chan events.Stored, 100), make(chan error, 1)
	go func() {
		done <- b.Read(ctx, s.Created, from, func(m events.Stored) error {
			heard <- m
			return nil
		})
	}()
	return heard, done, cancel
}

func state(t *testing.T, b *events.Bus) events.StreamState {
	t.Helper()
	s, err := b.EventStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func next(t *testing.T, heard chan events.Stored) events.Stored {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	select {
	case m := <-heard:
		return m
	case <-ctx.Done():
		t.Fatal("nothing is heard")
		return events.Stored{}
	}
}

// newReadEnv has a stream from which messages may be purged.
func newReadEnv(t *testing.T) (*env, *events.Bus) {
	t.Helper()
	e := &env{servers: eventstest.Single(t), logs: &buffer{}}
	return e, eventstest.Bus(t, e.url(), "auditor", func(o *events.Options) {
		o.Topology.Streams[0].DenyPurge = false
		o.Topology.Streams[0].DenyDelete = false
	})
}

func TestReadShowsEverythingFromASequenceOn(t *testing.T) {
	t.Parallel()
	e, b := newReadEnv(t)
	say(t, b, desired("a", 1), desired("b", 1), desired("c", 1))
	js := e.js(t)
	if _, err := js.Publish(t.Context(), "orkestra.v1.deeper.than.we.say", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	binary := &nats.Msg{Subject: "orkestra.v1.group.a", Data: []byte(`{"x":1}`), Header: nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"s"}, "ce-type": {"t"}, "Content-Type": {"application/json"},
	}}
	if _, err := js.PublishMsg(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	heard, done, stop := reading(t, b, state(t, b), 2)
	for want := uint64(2); want <= 5; want++ {
		m := next(t, heard)
		if m.Sequence != want || m.Pending != 5-want || m.Time.IsZero() {
			t.Errorf("got sequence %d with %d pending at %s, want %d", m.Sequence, m.Pending, m.Time, want)
		}
		switch {
		case want <= 3 && !bytes.Equal(m.Event, m.Raw):
			t.Errorf("the event %s is not as it is stored", m.Event)
		case want == 4 && m.Event != nil:
			t.Errorf("garbage is shown as the event %s", m.Event)
		case want == 5:
			var attributes struct{ ID, Type string }
			if err := json.Unmarshal(m.Event, &attributes); err != nil || attributes.ID != "1" || attributes.Type != "t" {
				t.Errorf("binary mode is shown as %s, %v", m.Event, err)
			}
		}
	}
	say(t, b, desired("d", 1))
	if m := next(t, heard); m.Sequence != 6 || m.Pending != 0 {
		t.Errorf("what is said later comes as %d, %d pending", m.Sequence, m.Pending)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Read: %v", err)
	}
}

func TestReadShowsHolesBySequence(t *testing.T) {
	t.Parallel()
	e, b := newReadEnv(t)
	say(t, b, desired("a", 1), desired("b", 1), desired("c", 1), desired("d", 1))
	s, err := e.js(t).Stream(t.Context(), events.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	if got := state(t, b); got.First != 3 || got.Last != 4 {
		t.Errorf("the state is %+v", got)
	}
	heard, _, _ := reading(t, b, state(t, b), 1)
	if m := next(t, heard); m.Sequence != 3 {
		t.Errorf("the first is %d, want 3", m.Sequence)
	}
}

func TestReadEndsWhereTheStreamIsMadeAnew(t *testing.T) {
	t.Parallel()
	e, b := newReadEnv(t)
	say(t, b, desired("a", 1), desired("b", 1))
	was := state(t, b)
	heard, done, _ := reading(t, b, was, 1)
	next(t, heard)
	next(t, heard)
	if err := e.js(t).DeleteStream(t.Context(), events.StreamEvents); err != nil {
		t.Fatal(err)
	}
	if err := b.EnsureTopology(t.Context()); err != nil {
		t.Fatal(err)
	}
	say(t, b, desired("c", 1), desired("d", 1), desired("e", 1))
	if err := <-done; !errors.Is(err, events.ErrStreamReplaced) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("Read ends with %v", err)
	}
	if len(heard) != 0 {
		t.Errorf("%d messages of the new stream are shown as if they followed the old", len(heard))
	}
	_, done, _ = reading(t, b, was, 1)
	if err := <-done; !errors.Is(err, events.ErrStreamReplaced) {
		t.Errorf("reading on ends with %v", err)
	}
}

func TestReadOutlivesTheServersRestart(t *testing.T) {
	t.Parallel()
	e, b := newReadEnv(t)
	say(t, b, desired("a", 1))
	heard, _, _ := reading(t, b, state(t, b), 1)
	next(t, heard)
	e.servers.Restart(0)
	say(t, b, desired("b", 1))
	if m := next(t, heard); m.Sequence != 2 {
		t.Errorf("after the restart comes %d, want 2", m.Sequence)
	}
}

func TestReadGoesOnWithAnotherLeader(t *testing.T) {
	t.Parallel()
	servers := eventstest.Cluster(t)
	eventstest.Bus(t, servers.URL(), "auditor", func(o *events.Options) { o.Replicas = servers.Nodes() })
	// Who is connected to another server than the leader is not told that it has died.
	for range servers.Nodes() {
		leader := -1
		eventstest.Eventually(t, timeout, "the stream has a leader", func() bool {
			leader = servers.StreamLeader(0, events.StreamEvents)
			return leader >= 0
		})
		elsewhere := "nats://u0:p@" + servers.Addr((leader+1)%servers.Nodes())
		readsOn(t, eventstest.Bus(t, elsewhere, "auditor"), func() { servers.Stop(leader) })
		servers.Start(leader)
	}
}

// readsOn says something, has a server go away, and expects to hear what is said then.
func readsOn(t *testing.T, b *events.Bus, goAway func()) {
	t.Helper()
	s := state(t, b)
	say(t, b, desired("a", int64(s.Last)+1))
	was := state(t, b)
	heard, _, stop := reading(t, b, was, was.Last)
	defer stop()
	next(t, heard)
	goAway()
	say(t, b, desired("b", int64(s.Last)+1))
	if m := next(t, heard); m.Sequence != was.Last+1 {
		t.Errorf("after the leader's end comes %d, want %d", m.Sequence, was.Last+1)
	}
	if now := state(t, b); !now.Created.Equal(was.Created) {
		t.Errorf("another leader says that the stream was made at %s, and the first said %s", now.Created, was.Created)
	}
}
