package timing

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What one list brings has no order; what a watch brings has.
func TestAListIsSeenAtOneTime(t *testing.T) {
	r := &Recorder{}
	yes := true
	for name, o := range map[string]metav1.ListOptions{
		"a list": {}, "a watch that begins with a list": {AllowWatchBookmarks: true, SendInitialEvents: &yes},
	} {
		r.request(&o)
		first := time.Now().Add(listComes / 2)
		if got := r.clock(first); got != first {
			t.Errorf("the first of %s was seen at %s, not at %s", name, got, first)
		}
		if got := r.clock(first.Add(listLasts / 2)); got != first {
			t.Errorf("the second of %s was seen %s after the first", name, got.Sub(first))
		}
		if at := first.Add(listLasts); r.clock(at) != at {
			t.Errorf("what comes after %s was seen at another time", name)
		}
	}
	r.request(&metav1.ListOptions{AllowWatchBookmarks: true, ResourceVersion: "7"})
	first := time.Now().Add(2 * listComes)
	for _, at := range []time.Time{first, first.Add(1)} {
		if r.clock(at) != at {
			t.Errorf("of a watch that goes on something was seen at another time")
		}
	}
	// A list of nothing does not make one of what comes later.
	r.request(&metav1.ListOptions{})
	for _, at := range []time.Time{first.Add(2 * listLasts), first.Add(2*listLasts + 1)} {
		if r.clock(at) != at {
			t.Errorf("what came long after a list was taken for a part of it")
		}
	}
}
