package generated

import (
	"slices"
	"testing"

	"orkestra.dev/pkg/events"
)

// What the comments say of who says what is what the server lets them say.
func TestWhoSaysItMaySayIt(t *testing.T) {
	c, err := readCatalogue("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.entries) != len(events.Types()) {
		t.Errorf("the catalogue has %d types, want %d", len(c.entries), len(events.Types()))
	}
	for _, e := range c.entries {
		i := slices.IndexFunc(events.Identities(), func(i events.Identity) bool { return i.Name == e.by })
		if i < 0 {
			t.Errorf("%s is said by %s, which has no identity", e.eventType(), e.by)
		} else if !slices.Contains(events.Identities()[i].Says, e.eventType().Thing()) {
			t.Errorf("%s is said by %s, which may say %v only", e.eventType(), e.by, events.Identities()[i].Says)
		}
	}
}
