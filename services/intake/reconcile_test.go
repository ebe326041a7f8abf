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
		if got := asked(g); !got.Equal(want) {
			t.Errorf("%q: got %s, want %s", annotation, got, want)
		}
	}
}
