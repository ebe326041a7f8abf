package stager

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// After staging it is asked what has become of the group.
func TestStill(t *testing.T) {
	for name, tc := range map[string]struct {
		reason     string
		now        func(*v1alpha1.ApplicationGroup) // what became of it; nil where it is gone
		superseded bool
	}{
		"Same":    {reason: "labels are nothing to us", now: func(g *v1alpha1.ApplicationGroup) { g.Labels = map[string]string{"a": "b"} }},
		"Gone":    {reason: "nobody is to be told", superseded: true},
		"Leaving": {reason: "nothing more is made for it", superseded: true, now: func(g *v1alpha1.ApplicationGroup) { g.DeletionTimestamp = new(metav1.Now()) }},
		"Changed": {reason: "the new spec has an event of its own", superseded: true, now: func(g *v1alpha1.ApplicationGroup) { g.Generation++ }},
		"Asked":   {reason: "so has a new request", superseded: true, now: func(g *v1alpha1.ApplicationGroup) { g.Annotations[v1alpha1.AnnotationRequestedAt] = "later" }},
		"Another": {reason: "another group has its name", superseded: true, now: func(g *v1alpha1.ApplicationGroup) { g.UID = "another" }},
	} {
		t.Run(name, func(t *testing.T) {
			w, group := newWorld(t), newGroup("a")
			build := fake.NewClientBuilder().WithScheme(w.client.Scheme())
			if tc.now != nil {
				now := group.DeepCopy()
				now.Finalizers = []string{v1alpha1.Finalizer}
				tc.now(now)
				build = build.WithObjects(now)
			}
			w.client = build.Build()
			err := w.still(t.Context(), group)
			if events.IsSuperseded(err) != tc.superseded || !tc.superseded && err != nil {
				t.Errorf("%s: got %v, want superseded %t", tc.reason, err, tc.superseded)
			}
		})
	}
}
