// Package lru keeps what was used last, up to a size.
package lru

import (
	"container/list"
	"sync"
)

// Cache of values by key. It is safe for concurrent use.
type Cache[V any] struct {
	mu    sync.Mutex
	limit int64
	size  int64
	order *list.List // of *entry[V], the last used in front
	by    map[string]*list.Element
}

type entry[V any] struct {
	key   string
	value V
	size  int64
}

// New is a cache of values whose sizes sum up to at most limit.
func New[V any](limit int64) *Cache[V] {
	return &Cache[V]{limit: limit, order: list.New(), by: map[string]*list.Element{}}
}

// Get returns the value of a key, if it is still there.
func (c *Cache[V]) Get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.by[key]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[V]).value, true
}

// Put keeps a value, in place of one that was there under its key. What is larger
// than the cache is not kept.
func (c *Cache[V]) Put(key string, value V, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.by[key]; ok {
		c.remove(e)
	}
	if size > c.limit {
		return
	}
	c.by[key] = c.order.PushFront(&entry[V]{key, value, size})
	for c.size += size; c.size > c.limit; {
		c.remove(c.order.Back())
	}
}

func (c *Cache[V]) remove(e *list.Element) {
	old := c.order.Remove(e).(*entry[V])
	delete(c.by, old.key)
	c.size -= old.size
}
