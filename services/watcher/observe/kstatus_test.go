package observe_test

import (
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

// What kubectl wait, Flux and every other tool that reads kstatus make of a group.
func TestKstatus(t *testing.T) {
	const yes, no = metav1.ConditionTrue, metav1.ConditionFalse
	failed := node("web.redis", wfv1.NodeFailed, 0, "boom")
	older := events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation - 1}
	wfs := func(list ...*wfv1.Workflow) []*wfv1.Workflow { return list }
	for name, tc := range map[string]struct {
		reason string
		world  observe.World
		want   status.Status
		ready  metav1.ConditionStatus
	}{
		"New":     {"a group that has just come is at work", observe.World{Group: group()}, status.InProgressStatus, metav1.ConditionUnknown},
		"Invalid": {"a spec that is refused will not heal", observe.World{Group: group(condition("Accepted", no, "InvalidSpec", "", generation))}, status.FailedStatus, no},
		"NoChart": {"nor will a chart that is not there", observe.World{Group: group(condition("Staged", no, "ChartNotFound", "", generation))}, status.FailedStatus, no},
		"NoRegistry": {
			"a registry that is away may come back",
			observe.World{Group: group(condition("Staged", no, "RepositoryUnreachable", "", generation))}, status.InProgressStatus, no,
		},
		"Running": {
			"a workflow is at work",
			observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowRunning))}, status.InProgressStatus, metav1.ConditionUnknown,
		},
		"TryingAgain": {
			"a failure that is tried again is not the end",
			observe.World{Group: group(retries(1)), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed))},
			status.InProgressStatus, metav1.ConditionUnknown,
		},
		"Succeeded": {
			"what is rolled out is current",
			observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded))}, status.CurrentStatus, yes,
		},
		"Unchanged": {
			"so is what was found to be as it should be",
			observe.World{Group: group(unchanged("uid-shop/3"), condition("Compiled", yes, "Unchanged", "", generation))}, status.CurrentStatus, yes,
		},
		"Outdated": {
			"the success of an older generation is not that of this one",
			observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, of(older)))},
			status.InProgressStatus, metav1.ConditionUnknown,
		},
		"RollingBack": {
			"a group on its way back is at work",
			observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed), workflow(events.WorkflowRollback, wfv1.WorkflowRunning))},
			status.InProgressStatus, no,
		},
		"RolledBack": {
			"and has failed when it is back",
			observe.World{Group: group(), Workflows: wfs(workflow(events.WorkflowForward, wfv1.WorkflowFailed, failed), workflow(events.WorkflowRollback, wfv1.WorkflowSucceeded))},
			status.FailedStatus, no,
		},
		"Held": {
			"a group that is held has not failed, and is not current",
			observe.World{Group: group(held, lastSucceeded(2))}, status.InProgressStatus, no,
		},
		"Deleting": {"a group that goes is going", observe.World{Group: group(deleting)}, status.TerminatingStatus, no},
	} {
		t.Run(name, func(t *testing.T) {
			tc.world.Now = now
			said, _ := observe.Summarize(tc.world)
			written(tc.world.Group, said)
			fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(tc.world.Group)
			if err != nil {
				t.Fatal(err)
			}
			object := &unstructured.Unstructured{Object: fields}
			object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
			got, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != tc.want {
				t.Errorf("%s: got %s (%s), want %s", tc.reason, got.Status, got.Message, tc.want)
			}
			for _, c := range tc.world.Group.Status.Conditions {
				if c.Type == v1alpha1.ConditionReady && c.Status != tc.ready {
					t.Errorf("%s: Ready is %s, want %s", tc.reason, c.Status, tc.ready)
				}
			}
			// A generation that nobody has looked at yet is at work, whatever was said.
			if tc.want == status.TerminatingStatus {
				return
			}
			object.SetGeneration(generation + 1)
			if got, err := status.Compute(object); err != nil || got.Status != status.InProgressStatus {
				t.Errorf("a newer generation: got %v, %v", got, err)
			}
		})
	}
}
