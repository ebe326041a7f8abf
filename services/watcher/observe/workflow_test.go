package observe_test

import (
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

func TestWorkflow(t *testing.T) {
	ref := events.WorkflowRef{Workflow: "shop-3-forward", WorkflowUID: "uid-wf", WorkflowType: events.WorkflowForward}
	on := func(task string) events.NodeRef {
		return events.NodeRef{WorkflowRef: ref, Node: "id-" + task, Task: task}
	}
	for name, tc := range map[string]struct {
		reason string
		wf     *wfv1.Workflow
		want   []events.Payload
	}{
		"New": {
			reason: "a workflow that Argo has not looked at tells nothing",
			wf:     workflow(events.WorkflowForward, wfv1.WorkflowUnknown),
		},
		"Nodes": {
			reason: "release nodes are told of, what ended before what began; inner nodes and what was left out are not",
			wf: workflow(events.WorkflowForward, wfv1.WorkflowRunning, dag("web"),
				node("web.c", wfv1.NodeRunning, 2*time.Second, ""),
				node("web.b", wfv1.NodeFailed, time.Second, "boom"),
				node("web.a", wfv1.NodeSucceeded, 0, ""),
				node("web.d", wfv1.NodeOmitted, 3*time.Second, "omitted"),
				node("web.e", wfv1.NodePending, 3*time.Second, "")),
			want: []events.Payload{
				events.NodeStarted{NodeRef: on("web.a")}, events.NodeSucceeded{NodeRef: on("web.a")},
				events.NodeStarted{NodeRef: on("web.b")}, events.NodeFailed{NodeRef: on("web.b"), Message: "boom"},
				events.NodeStarted{NodeRef: on("web.c")},
			},
		},
		"Ahead": {
			reason: "what comes before another is told before it, whenever its node was activated",
			wf: workflow(events.WorkflowForward, wfv1.WorkflowRunning, dag("web"),
				node("web.a", wfv1.NodeSucceeded, time.Second, ""), node("web.c", wfv1.NodeSucceeded, 3*time.Second, ""),
				child("web", "web.c"), child("web.c", "web.a")),
			want: []events.Payload{
				events.NodeStarted{NodeRef: on("web.c")}, events.NodeSucceeded{NodeRef: on("web.c")},
				events.NodeStarted{NodeRef: on("web.a")}, events.NodeSucceeded{NodeRef: on("web.a")},
			},
		},
		"Succeeded": {
			reason: "the end of a workflow is the last that is told of it",
			wf:     workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, node("web.a", wfv1.NodeSucceeded, 0, "")),
			want: []events.Payload{
				events.NodeStarted{NodeRef: on("web.a")}, events.NodeSucceeded{NodeRef: on("web.a")},
				events.RolloutSucceeded{WorkflowRef: ref},
			},
		},
		"Failed": {
			reason: "a failure is told in the words of the release that failed first",
			wf: workflow(events.WorkflowForward, wfv1.WorkflowFailed,
				node("web.a", wfv1.NodeFailed, 2*time.Second, "later"), node("web.b", wfv1.NodeFailed, 0, "boom"),
				func(wf *wfv1.Workflow) { wf.Status.Message = "child failed" }),
			want: []events.Payload{
				events.NodeStarted{NodeRef: on("web.b")}, events.NodeFailed{NodeRef: on("web.b"), Message: "boom"},
				events.NodeStarted{NodeRef: on("web.a")}, events.NodeFailed{NodeRef: on("web.a"), Message: "later"},
				events.RolloutFailed{WorkflowRef: ref, Reason: "Failed", Message: "boom", Task: "web.b"},
			},
		},
		"Error": {
			reason: "Argo's own error is told in Argo's words",
			wf: workflow(events.WorkflowForward, wfv1.WorkflowError,
				func(wf *wfv1.Workflow) { wf.Status.Message = "no such template" }),
			want: []events.Payload{events.RolloutFailed{WorkflowRef: ref, Reason: "Error", Message: "no such template"}},
		},
		"Terminated": {
			reason: "where somebody stopped the workflow no release is to blame",
			wf: workflow(events.WorkflowForward, wfv1.WorkflowFailed, node("web.a", wfv1.NodeFailed, 0, "workflow shutdown"),
				func(wf *wfv1.Workflow) {
					wf.Spec.Shutdown, wf.Status.Message = wfv1.ShutdownStrategyTerminate, "Stopped with strategy 'Terminate'"
				}),
			want: []events.Payload{
				events.NodeStarted{NodeRef: on("web.a")}, events.NodeFailed{NodeRef: on("web.a"), Message: "workflow shutdown"},
				events.RolloutFailed{WorkflowRef: ref, Reason: "Terminated", Message: "Stopped with strategy 'Terminate'"},
			},
		},
		"LongAgo": {
			reason: "what ended longer ago than the stream surely remembers is not told again",
			wf: workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, node("web.a", wfv1.NodeSucceeded, 0, ""),
				func(wf *wfv1.Workflow) { wf.Status.FinishedAt = at(-13 * time.Hour) }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			facts, err := observe.Workflow(tc.wf, now)
			if err != nil {
				t.Fatal(err)
			}
			var got []events.Payload
			for _, f := range facts {
				if f.Rollout != rollout {
					t.Errorf("a fact is about the workflow's rollout: got %+v", f.Rollout)
				}
				got = append(got, f.Data)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestWorkflowOfNobody(t *testing.T) {
	wf := workflow(events.WorkflowForward, wfv1.WorkflowRunning)
	for _, annotation := range []string{"", "{", `{"group":"shop"}`} {
		wf.Annotations[v1alpha1.AnnotationRollout] = annotation
		if facts, err := observe.Workflow(wf, now); err == nil {
			t.Errorf("a workflow with the rollout %q is nobody's: got %+v", annotation, facts)
		}
	}
}
