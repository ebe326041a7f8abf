package observe

import (
	"fmt"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupevent"
	"orkestra.dev/pkg/service/groupstatus"
)

// Reasons of Kubernetes events. The first two are the original's.
const (
	EventSuccess         = "ReconcileSuccess"
	EventError           = "ReconcileError"
	EventChartPullFailed = v1alpha1.ReasonChartPullFailed
	EventSuspended       = v1alpha1.ReasonSuspended
	EventResumed         = "Resumed"
	// Of workflows: what each type is called, and what became of it. A forward workflow
	// that succeeds, or is the last to fail, is told as ReconcileSuccess or
	// ReconcileError.
	EventRolloutStarted    = "RolloutStarted"
	EventRolloutRetried    = "RolloutRetried"
	EventRollbackStarted   = "RollbackStarted"
	EventRollbackSucceeded = "RollbackSucceeded"
	EventRollbackFailed    = "RollbackFailed"
	EventReverseStarted    = "ReverseStarted"
	EventReverseSucceeded  = "ReverseSucceeded"
	EventReverseFailed     = "ReverseFailed"
)

// Turns are the events by which the group, as it says it is, comes to the status.
// Whoever sees the same turn tells it under the same key.
func Turns(group *v1alpha1.ApplicationGroup, status groupstatus.Status) []groupevent.Event {
	return append(workflowTurns(group.Status.Rollout, status), readyTurns(group, status)...)
}

func readyTurns(group *v1alpha1.ApplicationGroup, status groupstatus.Status) []groupevent.Event {
	ready := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	before := apimeta.FindStatusCondition(group.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || before != nil && before.Status == ready.Status && before.Reason == ready.Reason &&
		before.ObservedGeneration == ready.ObservedGeneration {
		return nil
	}
	var out []groupevent.Event
	tell := func(kind, reason, message string) {
		key := groupstatus.RolloutOf(group).ID() + " " + string(ready.Status) + " " + ready.Reason
		out = append(out, groupevent.Event{Type: kind, Reason: reason, Message: message, Key: key})
	}
	held := before != nil && before.Reason == v1alpha1.ReasonSuspended
	if held && ready.Reason != v1alpha1.ReasonSuspended && group.DeletionTimestamp == nil {
		tell(corev1.EventTypeNormal, EventResumed, fmt.Sprintf("generation %d goes on", group.Generation))
	}
	switch {
	case ready.Status == metav1.ConditionTrue:
		tell(corev1.EventTypeNormal, EventSuccess, ready.Message)
	case ready.Status != metav1.ConditionFalse, ready.Reason == v1alpha1.ReasonTerminating:
		// The workflows tell how that goes.
	case ready.Reason == v1alpha1.ReasonSuspended:
		if !held {
			tell(corev1.EventTypeNormal, EventSuspended, ready.Message)
		}
	default:
		tell(corev1.EventTypeWarning, EventError, ready.Reason+": "+ready.Message)
		if ready.Reason == v1alpha1.ReasonChartPullFailed {
			tell(corev1.EventTypeWarning, EventChartPullFailed, ready.Message)
		}
	}
	return out
}

// workflowTurns are those of the newest workflow: that it has begun, and how it ended.
func workflowTurns(before *v1alpha1.RolloutStatus, status groupstatus.Status) []groupevent.Event {
	now := status.Rollout
	if now == nil {
		return nil
	}
	var out []groupevent.Event
	tell := func(kind, reason, message string) {
		out = append(out, groupevent.Event{Type: kind, Reason: reason, Message: message, Key: now.Workflow})
	}
	newer := before == nil || before.Workflow != now.Workflow
	if newer {
		tell(corev1.EventTypeNormal, begins[events.WorkflowType(now.Type)],
			fmt.Sprintf("workflow %s, of %d steps, for generation %d", now.Workflow, now.Total, now.Generation))
	}
	if now.Finished == nil || !newer && before.Finished != nil {
		return out
	}
	succeeded := wfv1.WorkflowPhase(now.Phase) == wfv1.WorkflowSucceeded
	switch events.WorkflowType(now.Type) {
	case events.WorkflowForward:
		c := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionForwardWorkflowSucceeded)
		if !succeeded && c != nil && c.Status == metav1.ConditionUnknown {
			tell(corev1.EventTypeWarning, EventRolloutRetried, c.Message)
		}
	case events.WorkflowRollback:
		out = append(out, ended(now, status, v1alpha1.ConditionRollbackWorkflowSucceeded, EventRollbackSucceeded, EventRollbackFailed)...)
	case events.WorkflowReverse:
		out = append(out, ended(now, status, v1alpha1.ConditionReverseWorkflowSucceeded, EventReverseSucceeded, EventReverseFailed)...)
	}
	return out
}

var begins = map[events.WorkflowType]string{
	events.WorkflowForward:  EventRolloutStarted,
	events.WorkflowRollback: EventRollbackStarted,
	events.WorkflowReverse:  EventReverseStarted,
}

// ended is how a workflow that undoes something went, in the words of its condition.
func ended(now *v1alpha1.RolloutStatus, status groupstatus.Status, condition, succeeded, failed string) []groupevent.Event {
	c := apimeta.FindStatusCondition(status.Conditions, condition)
	switch {
	case c == nil:
		return nil
	case c.Status == metav1.ConditionTrue:
		return []groupevent.Event{{Type: corev1.EventTypeNormal, Reason: succeeded, Message: c.Message, Key: now.Workflow}}
	case c.Status == metav1.ConditionFalse:
		return []groupevent.Event{{Type: corev1.EventTypeWarning, Reason: failed, Message: c.Message, Key: now.Workflow}}
	}
	return nil
}
