package execute_test

import (
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"

	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

func TestSettled(t *testing.T) {
	wf := newWorld(waits("a.one"), waits("b.two"), waits("c.three"),
		node("d.done", plan.Install, wfv1.NodeFailed, activated)).Workflow
	before := wf.DeepCopy()
	got, count := execute.Settled(wf, []execute.Settle{
		{Node: execute.Node{ID: "id-a.one"}, Phase: wfv1.NodeSucceeded},
		{Node: execute.Node{ID: "id-b.two"}, Phase: wfv1.NodeFailed, Message: "boom"},
		{Node: execute.Node{ID: "id-d.done"}, Phase: wfv1.NodeSucceeded},
		{Node: execute.Node{ID: "id-gone"}, Phase: wfv1.NodeSucceeded},
	}, now)
	if count != 2 {
		t.Errorf("nodes that wait are settled, others are not: got %d, want 2", count)
	}
	type phase struct {
		Phase    wfv1.NodePhase
		Message  string
		Finished bool
	}
	phases := map[string]phase{}
	for id, n := range got.Status.Nodes {
		phases[id] = phase{n.Phase, n.Message, n.FinishedAt.Time.Equal(now)}
	}
	want := map[string]phase{
		"id-a.one":   {wfv1.NodeSucceeded, "", true},
		"id-b.two":   {wfv1.NodeFailed, "boom", true},
		"id-c.three": {wfv1.NodeRunning, "", false},
		"id-d.done":  {wfv1.NodeFailed, "", false},
	}
	if diff := cmp.Diff(want, phases); diff != "" {
		t.Errorf("all nodes of one look are settled at once (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, wf); diff != "" {
		t.Errorf("what was seen is not changed:\n%s", diff)
	}

	wf.Spec.Shutdown = wfv1.ShutdownStrategyStop
	if _, count := execute.Settled(wf, []execute.Settle{{Node: execute.Node{ID: "id-a.one"}, Phase: wfv1.NodeSucceeded}}, now); count != 0 {
		t.Error("the nodes of a workflow that is being stopped are Argo's to end")
	}
}
