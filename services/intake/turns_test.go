package intake

import (
	"testing"
	"time"

	"orkestra.dev/services/intake/receive"
)

// Of those that wait for a group one comes back soon, and another does where that one is
// late, or the group was asked for since.
func TestTurns(t *testing.T) {
	next := receive.Next{Wait: receive.Spacing, AtMost: receive.Settling}
	begin := time.Now()
	var all turns
	for i, tt := range []struct {
		group, asked, event string
		at, want            time.Duration
	}{
		{"a", "1", "first", 0, receive.Spacing},
		{"a", "1", "second", 0, receive.Settling},
		{"b", "1", "second", 0, receive.Spacing},
		{"a", "1", "first", receive.Spacing, receive.Spacing},
		{"a", "1", "third", 2 * receive.Spacing, receive.Settling},
		{"a", "2", "fourth", 2 * receive.Spacing, receive.Spacing},
		{"a", "2", "fifth", 10 * receive.Spacing, receive.Spacing},
	} {
		if got := all.wait(tt.group, tt.asked, tt.event, next, begin.Add(tt.at)); got != tt.want {
			t.Errorf("%d: %s waits for %s, want %s", i, tt.event, got, tt.want)
		}
	}
	if len(all.first) != 1 {
		t.Errorf("groups that nobody waits for are forgotten: %v", all.first)
	}
}
