package events_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// A server without room refuses to store for much longer than an event may be tried: nobody
// is told that something was said, an event in hand is neither lost nor blamed, the server is
// not asked without end, and all goes on when there is room.
func TestNoRoomOnTheServer(t *testing.T) {
	t.Parallel()
	servers := eventstest.Single(t)
	e := &env{servers: servers, logs: &buffer{}, metrics: prometheus.NewRegistry()}
	b := e.bus(t, "stager", func(o *events.Options) {
		o.MaxAttempts = 3 // the servers' restarts may count
		o.SayTimeout = 200 * time.Millisecond
		o.Backoff = func(uint64) time.Duration { return time.Millisecond }
	})
	say(t, b, desired("g", 1))
	servers.Limit(0, 1)
	eventstest.Eventually(t, timeout, "the connection is there again", func() bool { return b.Ready() == nil })
	// Who is busy may not hear its answer in the time of one attempt.
	eventstest.Eventually(t, timeout, "the server says that it has no room", func() bool {
		err := b.Say(t.Context(), desired("other", 1))
		if err == nil {
			t.Fatal("a server without room has stored an event")
		}
		return strings.Contains(err.Error(), "insufficient resources")
	})
	var seen calls
	consume(t, b, "stager", 1, func(_ context.Context, f events.Fact) ([]events.Fact, error) {
		seen.add(f)
		return []events.Fact{staged(f.Rollout)}, nil
	})
	// Its facts cannot be said, and then that it waits cannot be counted.
	eventstest.Eventually(t, timeout, "the event stays in hand", func() bool {
		return strings.Contains(e.logs.String(), "stays in hand")
	})
	if n := seen.count(); n != 1 {
		t.Errorf("the handler ran %d times while nothing could be stored", n)
	}
	if n := strings.Count(e.logs.String(), "waiting for JetStream to store"); n == 0 || n > 5 {
		t.Errorf("that it waits is logged %d times:\n%s", n, e.logs)
	}
	servers.Limit(0, 0)
	e.settled(t, "stager")
	if all := letters(t, b); len(all) != 0 {
		t.Errorf("a full disk was counted as a failure of the event: %+v", all)
	}
	if n := e.stored(t, events.StreamEvents); n != 2 {
		t.Errorf("%d events are stored, want 2", n)
	}
}
