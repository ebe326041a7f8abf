package observe

import (
	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service/groupstatus"
)

// ownConditions are those that nobody but the watcher writes.
var ownConditions = []string{
	v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionDegraded,
	v1alpha1.ConditionForwardWorkflowSucceeded, v1alpha1.ConditionReverseWorkflowSucceeded,
	v1alpha1.ConditionRollbackWorkflowSucceeded,
}

// Told is how much of a status the group holds already.
type Told int

// How much is told.
const (
	// Nothing new: there is nothing to write.
	NothingNew Told = iota
	// Details: messages, counts and single releases have changed; there is no hurry.
	Details
	// Underway: the group is in another state than it says, and on its way: nothing of it is over.
	Underway
	// News: the group, or a workflow of it, is in another state than it says.
	News
)

// Compare says what of the status is new to the group.
func Compare(group *v1alpha1.ApplicationGroup, s groupstatus.Status) Told {
	told := compare(group, s)
	if told == News && !ends(group.Status.Rollout, s.Rollout) && apimeta.IsStatusConditionPresentAndEqual(s.Conditions, v1alpha1.ConditionReady, metav1.ConditionUnknown) {
		return Underway
	}
	return told
}

func compare(group *v1alpha1.ApplicationGroup, s groupstatus.Status) Told {
	told := NothingNew
	for _, kind := range ownConditions {
		have, want := apimeta.FindStatusCondition(group.Status.Conditions, kind), apimeta.FindStatusCondition(s.Conditions, kind)
		switch {
		case have == nil && want == nil:
		case have == nil || want == nil:
			return News
		case have.Status != want.Status, have.Reason != want.Reason, have.ObservedGeneration != want.ObservedGeneration:
			return News
		case have.Message != want.Message:
			told = Details
		}
	}
	if s.ObservedGeneration != group.Status.ObservedGeneration ||
		s.LastSucceededGeneration != group.Status.LastSucceededGeneration ||
		s.LastHandledReconcileAt != group.Status.LastHandledReconcileAt {
		return News
	}
	switch have, want := group.Status.Rollout, s.Rollout; {
	case have == nil && want == nil:
	case have == nil || want == nil:
		return News
	case have.Workflow != want.Workflow, have.Type != want.Type, have.Generation != want.Generation,
		have.Revision != want.Revision, ends(have, want), ends(want, have):
		return News
	case !apiequality.Semantic.DeepEqual(have, want):
		told = Details
	}
	if !apiequality.Semantic.DeepEqual(releaseStates(group.Status.Applications), releaseStates(s.Releases)) {
		return Details
	}
	return told
}

// ends says whether a workflow has ended since it was told of. That it has begun is a detail: that there is one is said already.
func ends(before, now *v1alpha1.RolloutStatus) bool {
	return before != nil && now != nil && before.Workflow == now.Workflow && before.Phase != now.Phase && wfv1.WorkflowPhase(now.Phase).Completed()
}

// releaseStates are the watcher's part of the applications' status, by application
// and subchart.
func releaseStates(applications []v1alpha1.ApplicationStatus) map[[2]string]v1alpha1.ChartStatus {
	out := map[[2]string]v1alpha1.ChartStatus{}
	add := func(application, subchart string, c v1alpha1.ChartStatus) {
		if c.Phase == "" && len(c.Conditions) == 0 {
			return
		}
		out[[2]string{application, subchart}] = v1alpha1.ChartStatus{
			Phase: c.Phase, LastTransitionTime: c.LastTransitionTime, Conditions: c.Conditions,
		}
	}
	for _, app := range applications {
		add(app.Name, "", app.ChartStatus)
		for name, chart := range app.Subcharts {
			add(app.Name, name, chart)
		}
	}
	return out
}
