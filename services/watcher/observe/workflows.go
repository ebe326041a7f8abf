package observe

import (
	"fmt"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// workflows are the conditions about the newest workflow of each type. The ones
// that undo something are told of while the rollout is current that they were
// for: the column RolledBack is about what is, not about what was.
func (s summary) workflows() []metav1.Condition {
	var out []metav1.Condition
	for _, t := range []struct {
		kind      events.WorkflowType
		condition string
		undoes    bool
	}{
		{events.WorkflowForward, v1alpha1.ConditionForwardWorkflowSucceeded, false},
		{events.WorkflowReverse, v1alpha1.ConditionReverseWorkflowSucceeded, true},
		{events.WorkflowRollback, v1alpha1.ConditionRollbackWorkflowSucceeded, true},
	} {
		old := apimeta.FindStatusCondition(s.Group.Status.Conditions, t.condition)
		wf := s.newest(t.kind, func(r run) bool { return !t.undoes || s.still(r) })
		if wf != nil && !s.behind(t.kind, wf, old) {
			out = append(out, s.workflow(t.condition, wf))
			continue
		}
		// The workflow may have been collected: what was said of it stays.
		if old != nil && (!t.undoes || old.ObservedGeneration == s.rollout.Generation && s.noted()) {
			out = append(out, *old)
		}
	}
	return out
}

// still: what undid something is told of. A group that is being deleted may be asked
// again to go.
func (s summary) still(r run) bool {
	return r.rollout == s.rollout || s.Group.DeletionTimestamp != nil && r.rollout.Generation == s.rollout.Generation
}

// noted: what the status tells is of this rollout, not of an earlier request for the
// same spec.
func (s summary) noted() bool {
	return s.Group.DeletionTimestamp != nil || s.Group.Status.LastHandledReconcileAt == s.rollout.RequestedAt
}

// behind: the end of this rollout's forward workflow was said, and we have not seen it.
func (s summary) behind(kind events.WorkflowType, wf *wfv1.Workflow, old *metav1.Condition) bool {
	return kind == events.WorkflowForward && !wf.Status.Fulfilled() &&
		old != nil && old.Status != metav1.ConditionUnknown && old.ObservedGeneration == s.generationOf(wf) &&
		(s.said(metav1.ConditionTrue, v1alpha1.ReasonSucceeded) || s.said(metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed))
}

func (s summary) workflow(condition string, wf *wfv1.Workflow) metav1.Condition {
	c := metav1.Condition{Type: condition, ObservedGeneration: s.generationOf(wf)}
	switch {
	case wf.Status.Successful():
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonSucceeded
		c.Message = fmt.Sprintf("workflow %s succeeded", wf.Name)
	case wf == s.forward() && s.retried(wf):
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, v1alpha1.ReasonProgressing, s.retrying(wf)
	case wf.Status.Fulfilled():
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonFailed, failureMessage(wf)
	case suspended(wf):
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonSuspended, s.progress(wf)
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionUnknown, v1alpha1.ReasonProgressing, s.progress(wf)
	}
	return c
}

func (s summary) generationOf(wf *wfv1.Workflow) int64 {
	for _, r := range s.runs {
		if r.wf == wf {
			return r.rollout.Generation
		}
	}
	return s.rollout.Generation
}
