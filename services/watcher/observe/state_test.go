package observe_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/watcher/observe"
)

func TestStateOf(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	ready := func(status metav1.ConditionStatus, generation int64) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: status, ObservedGeneration: generation, LastTransitionTime: ago(time.Hour)}
	}
	reconciling := metav1.Condition{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, LastTransitionTime: ago(time.Minute)}
	for name, tt := range map[string]struct {
		reason     string
		conditions []metav1.Condition
		change     func(*v1alpha1.ApplicationGroup)
		want       observe.State
		underWay   time.Duration
	}{
		"New":        {reason: "a group that nobody looked at is on its way since it was made", want: observe.StateProgressing, underWay: 2 * time.Hour},
		"Ready":      {reason: "a group at rest", conditions: []metav1.Condition{ready(metav1.ConditionTrue, 3)}, want: observe.StateReady},
		"Degraded":   {reason: "a group at rest, of which a release has gone", conditions: []metav1.Condition{ready(metav1.ConditionTrue, 3), {Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue}}, want: observe.StateDegraded},
		"Old":        {reason: "what is said of another generation does not hold", conditions: []metav1.Condition{ready(metav1.ConditionTrue, 2)}, want: observe.StateProgressing, underWay: time.Hour},
		"Failed":     {reason: "a group that failed and rests", conditions: []metav1.Condition{ready(metav1.ConditionFalse, 3)}, want: observe.StateFailed},
		"GoingBack":  {reason: "a group on its way back is not at rest", conditions: []metav1.Condition{ready(metav1.ConditionFalse, 3), reconciling}, want: observe.StateProgressing, underWay: time.Minute},
		"Unknown":    {reason: "a rollout in the middle", conditions: []metav1.Condition{ready(metav1.ConditionUnknown, 3), reconciling}, want: observe.StateProgressing, underWay: time.Minute},
		"Suspended":  {reason: "what is held is not late", conditions: []metav1.Condition{reconciling}, change: func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true }, want: observe.StateSuspended},
		"Deleting":   {reason: "a deletion counts from when it was asked for", change: func(g *v1alpha1.ApplicationGroup) { at := ago(time.Second); g.DeletionTimestamp = &at }, want: observe.StateDeleting, underWay: time.Second},
		"ClockAhead": {reason: "an age is never negative", conditions: []metav1.Condition{{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, LastTransitionTime: ago(-time.Minute)}}, want: observe.StateProgressing},
	} {
		t.Run(name, func(t *testing.T) {
			g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Generation: 3, CreationTimestamp: ago(2 * time.Hour)}}
			g.Status.Conditions = tt.conditions
			if tt.change != nil {
				tt.change(g)
			}
			if got := observe.StateOf(g); got != tt.want {
				t.Errorf("state %s, want %s: %s", got, tt.want, tt.reason)
			}
			if got := observe.UnderWay(g, now); got != tt.underWay {
				t.Errorf("under way for %s, want %s: %s", got, tt.underWay, tt.reason)
			}
		})
	}
}
