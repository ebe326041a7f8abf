package lru

import "testing"

func TestWhatWasUsedLastStays(t *testing.T) {
	c := New[string](10)
	c.Put("a", "a", 4)
	c.Put("b", "b", 4)
	if _, ok := c.Get("a"); !ok {
		t.Error("what fits is kept")
	}
	c.Put("c", "c", 4)
	if _, ok := c.Get("b"); ok {
		t.Error("what was not used for longest goes first")
	}
	if _, ok := c.Get("a"); !ok {
		t.Error("what was used stays")
	}
	c.Put("a", "A", 5)
	if v, _ := c.Get("a"); v != "A" || c.size != 9 {
		t.Errorf("a value is replaced, and its size with it: %q, %d", v, c.size)
	}
	c.Put("huge", "h", 11)
	if _, ok := c.Get("huge"); ok || c.size != 9 {
		t.Error("what is larger than the cache is not kept, and nothing goes for it")
	}
}
