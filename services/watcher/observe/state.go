package observe

import (
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// State is what a group is doing, in one word, for a metric: a group's name would be a
// label without bound.
type State string

// The states. Every group is in one of them.
const (
	StateReady State = "ready"
	// StateDegraded: it was rolled out, and is not what was rolled out any more.
	StateDegraded    State = "degraded"
	StateProgressing State = "progressing"
	StateFailed      State = "failed"
	StateSuspended   State = "suspended"
	StateDeleting    State = "deleting"
)

// States are all of them.
func States() []State {
	return []State{StateReady, StateDegraded, StateProgressing, StateFailed, StateSuspended, StateDeleting}
}

// StateOf reads a group's state from its conditions. A group that nobody has looked at
// yet is progressing.
func StateOf(group *v1alpha1.ApplicationGroup) State {
	ready := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case group.DeletionTimestamp != nil:
		return StateDeleting
	case group.Spec.Suspend:
		return StateSuspended
	case underWay(group) || ready == nil || ready.ObservedGeneration != group.Generation:
		return StateProgressing
	case ready.Status == metav1.ConditionTrue && apimeta.IsStatusConditionTrue(group.Status.Conditions, v1alpha1.ConditionDegraded):
		return StateDegraded
	case ready.Status == metav1.ConditionTrue:
		return StateReady
	case ready.Status == metav1.ConditionFalse:
		return StateFailed
	default:
		return StateProgressing
	}
}

// UnderWay is for how long a group has been on its way to where its spec wants it, its
// deletion included; zero where it is at rest, or held.
func UnderWay(group *v1alpha1.ApplicationGroup, now time.Time) time.Duration {
	var since time.Time
	switch StateOf(group) {
	case StateReady, StateDegraded, StateFailed, StateSuspended:
		return 0
	case StateDeleting:
		since = group.DeletionTimestamp.Time
	case StateProgressing:
		since = group.CreationTimestamp.Time
		if c := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReconciling); c != nil {
			since = c.LastTransitionTime.Time
		} else if c := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			since = c.LastTransitionTime.Time
		}
	}
	return max(0, now.Sub(since))
}

func underWay(group *v1alpha1.ApplicationGroup) bool {
	return apimeta.IsStatusConditionTrue(group.Status.Conditions, v1alpha1.ConditionReconciling)
}
