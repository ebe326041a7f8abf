package events_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"orkestra.dev/pkg/events"
)

func puttingOff(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	var handled, done calls
	consume(t, b, "stager", 1, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		handled.add(f)
		err := events.Afterwards(ctx, func(ctx context.Context) error {
			if n := e.stored(t, events.StreamEvents); n%2 == 1 {
				t.Errorf("%d events are stored, and what was put off until there is an effect is done", n)
			}
			done.add(f)
			switch f.Attempt {
			case 1:
				return errors.New("not this time")
			case 2:
				panic("nor this time")
			}
			return ctx.Err()
		})
		if f.Rollout.Group == "h" && f.Attempt < 3 {
			err = errors.New("what it puts off is not done")
		}
		return []events.Fact{staged(f.Rollout)}, err
	})
	for i, want := range []struct {
		group         string
		handled, done int
	}{{"g", 3, 3}, {"h", 6, 4}} {
		say(t, b, desired(want.group, 1))
		e.settled(t, "stager")
		if h, n := handled.count(), done.count(); h != want.handled || n != want.done {
			t.Errorf("after group %s: %d deliveries, want %d, and %d times something was done afterwards, want %d", want.group, h, want.handled, n, want.done)
		}
		if n := e.stored(t, events.StreamEvents); n != 2*(i+1) {
			t.Errorf("after group %s: %d events are stored, want a cause and an effect of each", want.group, n)
		}
	}
	atOnce := events.Afterwards(t.Context(), func(context.Context) error { return errors.ErrUnsupported })
	if !errors.Is(atOnce, errors.ErrUnsupported) {
		t.Errorf("for who is no handler it is done at once, and its error is %v", atOnce)
	}
}

// What a handler has put off may wait: its worker handles other events, but not any number of them, and none of
// those is acknowledged.
func waiting(t *testing.T, e *env) {
	b := e.bus(t, "stager")
	const most = events.PutOffPerWorker + 1 // with the one that the worker does itself
	const all = 3 * most
	release := make(chan struct{})
	var handled, done calls
	consume(t, b, "stager", 1, func(ctx context.Context, f events.Fact) ([]events.Fact, error) {
		if left := handled.add(f) - done.count(); left > most {
			t.Errorf("%d events have something put off, want %d at most", left, most)
		}
		return nil, events.Afterwards(ctx, func(context.Context) error {
			<-release
			done.add(f)
			return nil
		})
	})
	for i := range all {
		say(t, b, desired(fmt.Sprintf("g%d", i), 1))
	}
	handled.await(t, most)
	if n := e.handled(t, "done"); n != 0 {
		t.Errorf("%d events are acknowledged before what they have put off is done", n)
	}
	close(release)
	e.settled(t, "stager")
	if h, n := handled.count(), done.count(); h != all || n != all {
		t.Errorf("%d events are handled, and %d have done what they put off, want %d of each", h, n, all)
	}
}
