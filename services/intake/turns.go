package intake

import (
	"sync"
	"time"

	"orkestra.dev/services/intake/receive"
)

// turns are, by group, whose turn it is among the deliveries that wait for it: that one
// looks again soon, and what it asks for covers the others. They look again when there is
// nothing more to wait for, and so does everybody where the one does not come back.
type turns struct {
	mu    sync.Mutex
	first map[string]turn
}

type turn struct {
	event string
	// asked is when the group had been asked for last: of what comes after the next request
	// none is covered by it.
	asked string
	// until when it is to have come back.
	until time.Time
}

// turnTime is how much later than it should a delivery may come back.
const turnTime = 2 * receive.Spacing

// wait is in how long a delivery is to look at a group again that was asked for last at a time.
func (t *turns) wait(group, asked, event string, next receive.Next, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if first, ok := t.first[group]; ok && first.event != event && first.asked == asked && now.Before(first.until) {
		return next.AtMost
	}
	for name, first := range t.first { // of groups that nobody waits for any more
		if now.After(first.until) {
			delete(t.first, name)
		}
	}
	if t.first == nil {
		t.first = map[string]turn{}
	}
	t.first[group] = turn{event: event, asked: asked, until: now.Add(next.Wait + turnTime)}
	return next.Wait
}
