package intake

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// A deletion that was asked for again is not overdue at once: it would be asked for
// without end, and never said.
func TestAsked(t *testing.T) {
	deleted := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for annotation, want := range map[string]time.Time{
		"":                               deleted,
		"please":                         deleted,
		"2025-12-31T00:00:00Z":           deleted,
		"2026-01-01T00:00:31.000000001Z": deleted.Add(31*time.Second + 1),
	} {
		g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{
			DeletionTimestamp: new(metav1.NewTime(deleted)),
			Annotations:       map[string]string{v1alpha1.AnnotationRequestedAt: annotation},
		}}
		if got := deletionAsked(g); !got.Equal(want) {
			t.Errorf("%q: got %s, want %s", annotation, got, want)
		}
	}
}

// What a webhook has asked for is said at once, if there is nothing to be done before it.
func TestWhatWasAskedForIsSaidAtOnce(t *testing.T) {
	request := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	}
	for name, tt := range map[string]struct {
		change func(*v1alpha1.ApplicationGroup)
		want   int
	}{
		"Asked for":  {request, 1},
		"Held":       {func(g *v1alpha1.ApplicationGroup) { request(g); g.Spec.Suspend = true }, 0},
		"Not ours":   {func(g *v1alpha1.ApplicationGroup) { request(g); g.Finalizers = nil }, 0},
		"Impossible": {func(g *v1alpha1.ApplicationGroup) { request(g); g.Spec.Applications = nil }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			group := shop(tt.change)
			w := newWorld(t, group)
			r := w.replica(w)
			r.asked(t.Context(), group)
			if len(w.said) != tt.want {
				t.Errorf("said: %q, want %d", w.said, tt.want)
			}
			if tt.want > 0 {
				w.reconcile(t, r)
				if len(w.said) != tt.want {
					t.Errorf("the informer's turn says it anew: %q", w.said)
				}
			}
		})
	}
}
