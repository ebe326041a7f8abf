// Package flight has those who want the same at the same time share one errand.
package flight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Group lets those who want the same at the same time share one errand. Unlike
// singleflight of golang.org/x/sync it is not the first one's context that ends it: it
// is called off when nobody waits for it any more.
type Group[V any] struct {
	mu sync.Mutex
	by map[string]*flight[V]
}

type flight[V any] struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are there
	value   V
	err     error
}

// Do runs an errand under a key for at most timeout, or waits for the one that is
// under way. Where ctx ends first, its error is returned.
func (f *Group[V]) Do(ctx context.Context, key string, timeout time.Duration, errand func(context.Context) (V, error)) (V, error) {
	c := f.join(ctx, key, timeout, errand)
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		f.leave(key, c)
		var none V
		return none, ctx.Err()
	}
}

func (f *Group[V]) join(ctx context.Context, key string, timeout time.Duration, errand func(context.Context) (V, error)) *flight[V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.by[key]
	if c == nil {
		if f.by == nil {
			f.by = map[string]*flight[V]{}
		}
		alone, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		c = &flight[V]{cancel: cancel, done: make(chan struct{})}
		f.by[key] = c
		go f.run(alone, key, c, errand)
	}
	c.waiting++
	return c
}

func (f *Group[V]) run(ctx context.Context, key string, c *flight[V], errand func(context.Context) (V, error)) {
	defer func() {
		// Nobody up this goroutine's stack could, and what is read is hostile.
		if p := recover(); p != nil {
			c.err = fmt.Errorf("panic: %v", p)
		}
		c.cancel()
		f.mu.Lock()
		f.forget(key, c)
		f.mu.Unlock()
		close(c.done)
	}()
	c.value, c.err = errand(ctx)
}

func (f *Group[V]) leave(key string, c *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.waiting--; c.waiting == 0 {
		f.forget(key, c)
		c.cancel()
	}
}

func (f *Group[V]) forget(key string, c *flight[V]) {
	if f.by[key] == c {
		delete(f.by, key)
	}
}
