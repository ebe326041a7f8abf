package tree

import (
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

// Advice says how a group stands that came to rest and is not ready, or not whole, and what its user
// can do: with which verb of the command line. Empty where there is nothing to say.
func Advice(group *v1alpha1.ApplicationGroup) (text, verb string) {
	over, ok := Done(group)
	ready := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		return "", ""
	case ok && condition(group, v1alpha1.ConditionDegraded) != nil && !group.Spec.Suspend && group.DeletionTimestamp.IsZero():
		return "Where spec.interval is set, it is put right then. To do that now:", "reconcile"
	case ok:
		return "", ""
	case !group.DeletionTimestamp.IsZero():
		if !apimeta.IsStatusConditionTrue(group.Status.Conditions, v1alpha1.ConditionStalled) {
			return "", ""
		}
		return "The group stays until what is named goes. To let it go at once, whatever is left of it:", "delete --force"
	case over && group.Spec.Suspend:
		return "To let it go on:", "resume"
	case over && ready.Reason == v1alpha1.ReasonWorkflowFailed:
		return outcome(group) + " Mend the spec and apply it, or try it again as it is:", "retry"
	case ready.ObservedGeneration == group.Generation && ready.Reason == v1alpha1.ReasonChartPullFailed:
		return "What is installed stays as it is. Mend the spec and apply it, or try it again as it is:", "retry"
	default:
		return "", ""
	}
}

// outcome of a rollout that failed: where that has left the group.
func outcome(group *v1alpha1.ApplicationGroup) string {
	way := func(kind string) metav1.ConditionStatus {
		c := apimeta.FindStatusCondition(group.Status.Conditions, kind)
		if c == nil || c.ObservedGeneration != group.Generation {
			return ""
		}
		return c.Status
	}
	rollback, reverse := way(v1alpha1.ConditionRollbackWorkflowSucceeded), way(v1alpha1.ConditionReverseWorkflowSucceeded)
	switch {
	case rollback == metav1.ConditionTrue:
		return "The group is back at its last good revision."
	case reverse == metav1.ConditionTrue:
		return "What the rollout had made was removed."
	case rollback == metav1.ConditionFalse, reverse == metav1.ConditionFalse:
		return "The way back failed too, and what was made is left as it is."
	default:
		return "What was made is left as it is."
	}
}
