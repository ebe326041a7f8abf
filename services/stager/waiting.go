package stager

import (
	"context"
	"errors"
	"sync"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
)

const (
	// tick is how often something is looked at that nobody tells us of.
	tick = 20 * time.Millisecond
	// seldom is how often something is looked at of which we are told.
	seldom = 250 * time.Millisecond
	// breath is the least time between two looks, however often we are told.
	breath = 5 * time.Millisecond
)

var errPatience = errors.New("not in time")

// poll asks until the answer is yes, at most for the time given: every so often, and when
// rung says that it may be another by now.
func poll(ctx context.Context, every, within time.Duration, rung <-chan struct{}, ask func() (bool, error)) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		rested := time.NewTimer(breath)
		select {
		case <-ctx.Done():
			rested.Stop()
			return ctx.Err()
		case <-rested.C:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return errPatience
		case <-again.C:
		case <-rung:
		}
	}
}

// bells tell who works on a group that something of it has changed.
type bells struct {
	mu sync.Mutex
	by map[string]map[chan struct{}]bool
}

// hear is rung from now on for what has that owner, until leave is called.
func (b *bells) hear(owner string) (rung <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		b.by = map[string]map[chan struct{}]bool{}
	}
	if b.by[owner] == nil {
		b.by[owner] = map[chan struct{}]bool{}
	}
	b.by[owner][c] = true
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.by[owner], c)
		if len(b.by[owner]) == 0 {
			delete(b.by, owner)
		}
	}
}

// ring for an object: who has not looked since the last time is not told twice.
func (b *bells) ring(o any) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	object, ok := o.(client.Object)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.by[object.GetLabels()[v1alpha1.LabelOwner]] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// each calls do with 0 to n-1, and with at most parallel of them at a time.
func each(n int, do func(i int)) {
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}
