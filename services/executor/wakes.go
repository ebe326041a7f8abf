package executor

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan/outcome"
	"orkestra.dev/services/executor/execute"
)

// lookTimeout bounds one look at a workflow.
const lookTimeout = time.Minute

// wake asks for a look at a workflow. Whatever the fact says is read again.
type wake struct {
	workflow string
	// task that the fact speaks of; empty where it is none.
	task string
	// activated are tasks whose nodes Argo has activated.
	activated []string
	// news of releases.
	news []news
	// live: the workflow is to be read, whatever was heard of it, but where that is of version, a
	// resourceVersion that it has had just now.
	live    bool
	version string
}

// news is what was told of a release. The informer may be behind it.
type news struct {
	key        execute.Key
	uid        types.UID
	generation int64
	// deleted: the release is gone. timed: its time is up, so that it matters most
	// what it is just now.
	deleted, timed bool
}

// old reports whether what the informer holds is as new as the news. It mostly
// is, and a read is saved.
func (n news) old(cached *helmv2.HelmRelease) bool {
	if n.deleted {
		return cached == nil || cached.UID != n.uid
	}
	return !n.timed && cached != nil && cached.UID == n.uid && cached.Generation >= n.generation &&
		outcome.Of(cached).Phase != outcome.Progressing
}

// wakeOf is the look that a fact asks for; ok is false where it asks for none.
func wakeOf(f events.Fact) (w wake, ok bool) {
	of := func(r events.ReleaseRef, deleted, timed bool) (wake, bool) {
		return wake{workflow: r.Workflow, task: r.Task, news: []news{{
			key: execute.Key{Namespace: r.Namespace, Name: r.Name}, uid: types.UID(r.ReleaseUID),
			generation: r.ReleaseGeneration, deleted: deleted, timed: timed,
		}}}, r.Workflow != ""
	}
	switch data := f.Data.(type) {
	case events.WorkflowSubmitted:
		return wake{workflow: data.Workflow}, data.Workflow != ""
	case events.NodeStarted:
		return wake{workflow: data.Workflow, task: data.Task, activated: []string{data.Task}}, data.Workflow != ""
	case events.ReleaseReady:
		return of(data.ReleaseRef, false, false)
	case events.ReleaseFailed:
		return of(data.ReleaseRef, false, false)
	case events.ReleaseExpired:
		return of(data.ReleaseRef, false, true)
	case events.ReleaseDeleted:
		return of(data.ReleaseRef, true, false)
	default:
		return wake{}, false
	}
}

// join makes one look of two.
func (w *wake) join(other wake) {
	w.news = append(w.news, other.news...)
	w.activated = append(w.activated, other.activated...)
	switch {
	case other.live && !w.live:
		w.live, w.version = true, other.version
	case other.live && w.version != other.version:
		w.version = ""
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
		next.wake.join(w)
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
		next.err = ws.bounded(ctx, next.wake)
	}()
}

// bounded looks, within lookTimeout. Mostly no handler is above us to turn a panic into a
// failed attempt.
func (ws *wakes) bounded(ctx context.Context, w wake) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("looking at workflow %s: panic: %v\n%s", w.workflow, r, debug.Stack())
		}
	}()
	return ws.look(ctx, w)
}
