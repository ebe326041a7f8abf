package events

import (
	"context"
	"errors"
	"sync"
)

// afterwards is what a handler has put off.
type afterwards struct {
	mu sync.Mutex
	do []func(context.Context) error
}

type afterwardsKey struct{}

// Afterwards puts off what nobody waits for, such as writing a status, until what the
// handler returns is said. It is done before the event is acknowledged: where it fails,
// the event comes back, as if the handler had failed. Where the handler itself fails it
// is not done. With a ctx that is no handler's it is done at once.
//
// It may wait for a while: the worker goes on to the next event meanwhile, as long as there are not
// more than putOffPerWorker such events for each worker.
func Afterwards(ctx context.Context, do func(context.Context) error) error {
	a, ok := ctx.Value(afterwardsKey{}).(*afterwards)
	if !ok {
		return do(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.do = append(a.do, do)
	return nil
}

// putOff is a context for a handler, and what it will have put off.
func putOff(ctx context.Context) (context.Context, *afterwards) {
	a := &afterwards{}
	return context.WithValue(ctx, afterwardsKey{}, a), a
}

// any tells whether something was put off.
func (a *afterwards) any() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.do) > 0
}

// run does what was put off.
func (a *afterwards) run(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, do := range a.do {
		errs = append(errs, do(ctx))
	}
	return errors.Join(errs...)
}
