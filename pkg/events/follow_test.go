package events_test

import (
	"context"
	"testing"
	"time"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

// A server that says nothing any more, and keeps its connections, has a reader make its consumer again, and again.
func TestReadingASilentServerEnds(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Minute // heartbeats are missed after 6 s, and each attempt takes 10 s
	for name, test := range map[string]struct {
		reason    string
		options   events.FollowOptions
		interrupt bool
		fails     bool
	}{
		"Follow":           {"who follows what comes waits until that is interrupted", events.FollowOptions{Follow: true}, true, false},
		"ReadWhatIsThere":  {"who reads what is there is told that it cannot be read", events.FollowOptions{}, false, true},
		"ReadAndInterrupt": {"to interrupt that is no error", events.FollowOptions{}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := eventstest.Single(t)
			say(t, eventstest.Bus(t, servers.Account(1), "stager"), desired("g", 1))
			silent, silence := silenced(t, servers.Addr(0))
			asked := make(chan struct{})
			addr := firstBefore(t, ".MSG.NEXT.", silent, func() { silence(); close(asked) })
			b, err := events.Connect(t.Context(), events.Options{URL: "nats://u1:p@" + addr, Source: "orkestra://test/reader"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- b.Follow(ctx, test.options, func(events.Fact, []byte) error { return nil }) }()
			<-asked
			if test.interrupt {
				// It makes its consumer again by then, and does not come to the end of that.
				time.AfterFunc(8*time.Second, cancel)
			}
			select {
			case err := <-done:
				if (err != nil) != test.fails {
					t.Errorf("%s: %v", test.reason, err)
				}
			case <-time.After(patience):
				t.Errorf("%s: it does not end", test.reason)
			}
		})
	}
}

// A reader's consumer is on one replica of the stream, perhaps on one that is behind: that says that nothing is to come,
// and then it comes.
func TestReadingWhatIsThereFromAReplicaThatIsBehind(t *testing.T) {
	t.Parallel()
	servers := eventstest.Single(t)
	b := eventstest.Bus(t, servers.Account(1), "stager")
	say(t, b, desired("a", 1), desired("b", 1), desired("a.b", 1), desired("c", 1))
	start := time.Now()
	reader, err := events.Connect(t.Context(), events.Options{
		URL: "nats://u1:p@" + behind(t, servers.Addr(0)), Source: "orkestra://test/reader",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	for _, test := range []struct {
		options events.FollowOptions
		want    int
	}{
		{events.FollowOptions{}, 4},
		{events.FollowOptions{Group: "b"}, 1},
		{events.FollowOptions{Types: []events.Type{events.TypeGroupDesired, events.TypeChartsStaged}}, 4},
		{events.FollowOptions{Group: "nobody"}, 0},
		{events.FollowOptions{Since: start.Add(time.Hour)}, 0},
	} {
		seen := 0
		if err := reader.Follow(t.Context(), test.options, func(events.Fact, []byte) error {
			seen++
			return nil
		}); err != nil {
			t.Error(err)
		}
		if seen != test.want {
			t.Errorf("Follow(%+v) shows %d events, want %d", test.options, seen, test.want)
		}
	}
}
