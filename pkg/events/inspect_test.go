package events_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/events/eventstest"
)

func inspect(t *testing.T, b *events.Bus) events.TopologyState {
	t.Helper()
	s, err := b.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What EnsureTopology made is as it should be, and what somebody changed is named.
func TestInspectNamesWhatIsNotAsItShouldBe(t *testing.T) {
	t.Parallel()
	e := &env{servers: eventstest.Single(t), logs: &buffer{}}
	b := eventstest.Bus(t, e.url(), "stager")
	made := inspect(t, b)
	for _, s := range made.Streams {
		if s.Missing || len(s.Drift) > 0 || s.Leaderless {
			t.Errorf("a stream that was just made: %+v", s)
		}
	}
	for _, c := range made.Consumers {
		if c.Missing || len(c.Drift) > 0 || c.Waiting > 0 {
			t.Errorf("a consumer that was just made, and that nobody uses: %+v", c)
		}
	}

	js := e.js(t)
	s, err := js.Stream(t.Context(), events.StreamWaits)
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxMsgsPerSubject, config.MaxAge, config.MaxMsgs = 7, time.Hour, 9
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), events.StreamEvents, "stager")
	if err != nil {
		t.Fatal(err)
	}
	drifted := c.CachedInfo().Config
	drifted.MaxDeliver = 3
	if _, err := js.UpdateConsumer(t.Context(), events.StreamEvents, drifted); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), events.StreamEvents, "intake"); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), events.StreamDeadLetters); err != nil {
		t.Fatal(err)
	}
	changed := inspect(t, b)
	for _, s := range changed.Streams {
		switch s.Name {
		case events.StreamWaits:
			if text := strings.Join(s.Drift, "; "); text != "max_msgs_per_subject is 7, not 1" || s.MaxAge != time.Hour || s.MaxMessages != 9 {
				t.Errorf("the changed stream: %q, %+v", text, s)
			}
		case events.StreamDeadLetters:
			if !s.Missing {
				t.Errorf("the deleted stream: %+v", s)
			}
		}
	}
	for _, c := range changed.Consumers {
		switch c.Name {
		case "stager":
			if text := strings.Join(c.Drift, "; "); text != "max_deliver is 3, not -1" {
				t.Errorf("the changed consumer: %q", text)
			}
		case "intake":
			if !c.Missing {
				t.Errorf("the deleted consumer: %+v", c)
			}
		}
	}
}

// Whoever asks for events of a consumer is seen there.
func TestInspectSeesWhoWaits(t *testing.T) {
	t.Parallel()
	e := &env{servers: eventstest.Single(t), logs: &buffer{}}
	b := eventstest.Bus(t, e.url(), "stager")
	c, err := e.js(t).Consumer(t.Context(), events.StreamEvents, "stager")
	if err != nil {
		t.Fatal(err)
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(1))
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	go func() { _, _ = messages.Next() }() // it ends with Stop, and what it gives is no matter
	eventstest.Eventually(t, timeout, "somebody to wait at the consumer", func() bool {
		for _, c := range inspect(t, b).Consumers {
			if c.Name == "stager" {
				return c.Waiting == 1
			}
		}
		return false
	})
}
