package executor

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"orkestra.dev/pkg/events"
	"orkestra.dev/services/executor/execute"
)

// lookTimeout bounds one look at a workflow.
const lookTimeout = time.Minute

// wake asks for a look at a workflow. Whatever the fact says is read again.
type wake struct {
	workflow string
	// group of the workflow, where it is known: it saves a round trip.
	group string
	// changed are the releases of which something is told, so that what the
	// informer holds of them may be older than that.
	changed []execute.Key
}

// wakeOf is the look that a fact asks for; ok is false where it asks for none.
func wakeOf(f events.Fact) (w wake, ok bool) {
	w.group = f.Rollout.Group
	released := func(r events.ReleaseRef) (wake, bool) {
		w.workflow = r.Workflow
		w.changed = []execute.Key{{Namespace: r.Namespace, Name: r.Name}}
		return w, r.Workflow != ""
	}
	switch data := f.Data.(type) {
	case events.NodeStarted:
		w.workflow = data.Workflow
		return w, data.Workflow != ""
	case events.ReleaseReady:
		return released(data.ReleaseRef)
	case events.ReleaseFailed:
		return released(data.ReleaseRef)
	case events.ReleaseExpired:
		return released(data.ReleaseRef)
	case events.ReleaseDeleted:
		return released(data.ReleaseRef)
	default:
		return wake{}, false
	}
}

// wakes looks at each workflow one at a time. Wake-ups that arrive during a look
// share the next one: what they tell of may have come too late for this one.
type wakes struct {
	look func(context.Context, wake) error

	mu   sync.Mutex
	busy map[string]*shared // by workflow; the value is the look to come, or nil
}

// shared is a look that has not begun, and those who wait for it.
type shared struct {
	wake wake
	done chan struct{}
	err  error // to be read when done is closed
}

func newWakes(look func(context.Context, wake) error) *wakes {
	return &wakes{look: look, busy: map[string]*shared{}}
}

// do has the workflow looked at, after the call, and returns what came of it.
func (ws *wakes) do(ctx context.Context, w wake) error {
	ws.mu.Lock()
	next, busy := ws.busy[w.workflow]
	if !busy {
		ws.busy[w.workflow] = nil
		ws.mu.Unlock()
		defer ws.finish(ctx, w.workflow)
		return ws.bounded(ctx, w)
	}
	if next == nil {
		next = &shared{wake: w, done: make(chan struct{})}
		ws.busy[w.workflow] = next
	} else {
		next.wake.changed = append(next.wake.changed, w.changed...)
	}
	ws.mu.Unlock()

	select {
	case <-next.done:
		return next.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish begins the look that others wait for, if any do. It belongs to none of
// them, so it outlives the context of each.
func (ws *wakes) finish(ctx context.Context, workflow string) {
	ws.mu.Lock()
	next := ws.busy[workflow]
	if next == nil {
		delete(ws.busy, workflow)
		ws.mu.Unlock()
		return
	}
	ws.busy[workflow] = nil
	ws.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer ws.finish(ctx, workflow)
		defer close(next.done)
		defer func() {
			// No handler is above us to turn a panic into a failed attempt.
			if r := recover(); r != nil {
				next.err = fmt.Errorf("looking at workflow %s: panic: %v\n%s", workflow, r, debug.Stack())
			}
		}()
		next.err = ws.bounded(ctx, next.wake)
	}()
}

func (ws *wakes) bounded(ctx context.Context, w wake) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return ws.look(ctx, w)
}
