package observe_test

import (
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

// A rollback that a change cuts off, and the workflow of that change, are made within a second.
func TestTheNewestOfOneSecondIsOfTheNewerGeneration(t *testing.T) {
	older := events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation - 1}
	cut := workflow(events.WorkflowRollback, wfv1.WorkflowFailed, func(wf *wfv1.Workflow) {
		wf.Name = "shop-rollback-g2"
		wf.Annotations[v1alpha1.AnnotationRollout] = rolloutAnnotation(older)
	})
	now := workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, func(wf *wfv1.Workflow) { wf.Name = "shop-forward-g3" })
	for _, wfs := range [][]*wfv1.Workflow{{cut, now}, {now, cut}} {
		status, _ := observe.Summarize(observe.World{Group: group(), Workflows: wfs})
		if status.Rollout == nil || status.Rollout.Workflow != now.Name || status.Rollout.Generation != generation {
			t.Errorf("the status tells of %+v, want %s", status.Rollout, now.Name)
		}
	}
}
