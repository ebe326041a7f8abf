package timing

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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

// A release is ready when its conditions say so, or when nothing but Helm's record does.
func TestReady(t *testing.T) {
	condition := func(kind, status string, observed int64) any {
		return map[string]any{"type": kind, "status": status, "observedGeneration": observed}
	}
	record := []any{map[string]any{"status": "deployed"}, map[string]any{"status": "failed"}}
	for name, tc := range map[string]struct {
		observed            int64
		conditions, history []any
		want                bool
	}{
		"as its condition says":     {2, []any{condition("Released", "True", 2), condition("Ready", "True", 2)}, record, true},
		"of an older generation":    {1, []any{condition("Ready", "True", 1)}, record, false},
		"under way":                 {2, []any{condition("Ready", "Unknown", 2)}, nil, false},
		"as only the record says":   {2, []any{condition("Ready", "Unknown", 2)}, record, true},
		"an older one's record":     {1, []any{condition("Ready", "Unknown", 2)}, record, false},
		"failed, as it was told":    {2, []any{condition("Ready", "False", 2), condition("Released", "False", 2)}, record, false},
		"failed, as the record has": {2, nil, record[1:], false},
	} {
		u := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
			"conditions": tc.conditions, "history": tc.history, "observedGeneration": tc.observed, "lastAttemptedGeneration": tc.observed,
		}}}
		u.SetGeneration(2)
		if got := ready(u); got != tc.want {
			t.Errorf("%s: ready is %t", name, got)
		}
	}
}
