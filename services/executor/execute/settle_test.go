package execute_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// argoWorkflow is a workflow of the example group as Argo v3.7 left it, having activated
// each node itself.
func argoWorkflow(t *testing.T) *wfv1.Workflow {
	t.Helper()
	data, err := os.ReadFile("testdata/bookinfo.json")
	if err != nil {
		t.Fatal(err)
	}
	out := &wfv1.Workflow{}
	if err := json.Unmarshal(data, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// firstLook is the same workflow after Argo's first look at it: only the gateway is active.
func firstLook(t *testing.T) *wfv1.Workflow {
	t.Helper()
	wf := argoWorkflow(t)
	wf.Status.Phase = wfv1.WorkflowRunning
	maps.DeleteFunc(wf.Status.Nodes, func(_ string, n wfv1.NodeStatus) bool { return strings.Contains(n.Name, ".bookinfo") })
	for id, n := range wf.Status.Nodes {
		n.Phase, n.FinishedAt, n.OutboundNodes = wfv1.NodeRunning, metav1.Time{}, nil
		if n.Type == wfv1.NodeTypeSuspend {
			n.Children = nil
		}
		wf.Status.Nodes[id] = n
	}
	return wf
}

// ahead are the ends of tasks that Argo has not activated, each begun a second after the
// one before.
func ahead(tasks ...string) (out []execute.Settle) {
	for i, task := range tasks {
		out = append(out, execute.Settle{Node: execute.Node{Task: task}, Since: now.Add(time.Duration(i) * time.Second), Phase: wfv1.NodeSucceeded})
	}
	return out
}

var bookinfo = []string{
	"gateway.gateway-gateway", "bookinfo.bookinfo-details", "bookinfo.bookinfo-ratings", "bookinfo.bookinfo-reviews",
	"bookinfo.bookinfo-productpage", "bookinfo.bookinfo-bookinfo",
}

func TestSettledAheadIsAsArgoLeavesIt(t *testing.T) {
	wf := firstLook(t)
	got, count := execute.Settled(wf, ahead(bookinfo...), now)
	if count != len(bookinfo) {
		t.Errorf("got %d nodes settled, want %d", count, len(bookinfo))
	}
	like := func(wf *wfv1.Workflow) wfv1.Nodes {
		nodes := wf.Status.Nodes.DeepCopy()
		for id, n := range nodes {
			n.StartedAt, n.FinishedAt, n.Progress = metav1.Time{}, metav1.Time{}, ""
			slices.Sort(n.Children)
			if id == wf.Name { // the end of the workflow is Argo's to tell
				n.Phase, n.OutboundNodes = "", nil
			}
			nodes[id] = n
		}
		return nodes
	}
	if diff := cmp.Diff(like(argoWorkflow(t)), like(got)); diff != "" {
		t.Errorf("nodes that Argo finds are those that it would have written (-want +got):\n%s", diff)
	}
	if n := got.Status.Nodes[wf.Name]; n.Phase != wfv1.NodeRunning {
		t.Errorf("the workflow's own node is %s, want it to be for Argo to end", n.Phase)
	}
	for _, n := range got.Status.Nodes {
		// The gateway had been activated.
		if n.Type == wfv1.NodeTypeSuspend && strings.Contains(n.Name, ".bookinfo") && (n.StartedAt.Before(&metav1.Time{Time: now}) || !n.FinishedAt.Time.Equal(now)) {
			t.Errorf("%s lasts from %s to %s, want it from when its release was begun to now", n.Name, n.StartedAt, n.FinishedAt)
		}
		if n.Name == wf.Name+".bookinfo" && !n.StartedAt.Time.Equal(now.Add(time.Second)) {
			t.Errorf("the application began at %s, want it to begin with the first of its releases, at %s", n.StartedAt, now.Add(time.Second))
		}
	}
	if again, count := execute.Settled(got, ahead(bookinfo...), now.Add(time.Hour)); count != 0 || cmp.Diff(got, again) != "" {
		t.Errorf("what is settled is not settled again: got %d nodes", count)
	}
}

func TestSettledAhead(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		edit   func(*wfv1.Workflow)
		ahead  []string
		want   []string
	}{
		"InOrder": {
			reason: "what comes after something that is not done is not written, whoever says that it is done",
			ahead:  []string{bookinfo[0], bookinfo[1], bookinfo[3]}, want: bookinfo[:2],
		},
		"ParentActive": {reason: "nor what comes after something that is not settled", ahead: bookinfo[1:]},
		"Stopped": {
			reason: "the nodes of a workflow that is being stopped are Argo's to end",
			edit:   func(wf *wfv1.Workflow) { wf.Spec.Shutdown = wfv1.ShutdownStrategyStop }, ahead: bookinfo,
		},
		"Held": {
			reason: "of a workflow that is held what is active is settled, and Argo activates nothing",
			edit:   func(wf *wfv1.Workflow) { wf.Spec.Suspend = new(true) }, ahead: bookinfo, want: bookinfo[:1],
		},
		"Failed": {
			reason: "after a failure it is Argo's to say what becomes of the rest",
			edit: func(wf *wfv1.Workflow) {
				wf.Status.Nodes["x"] = wfv1.NodeStatus{ID: "x", Name: wf.Name + ".x", Type: wfv1.NodeTypeSuspend, Phase: wfv1.NodeFailed}
			}, ahead: bookinfo, want: bookinfo[:1],
		},
		"New": {
			reason: "a workflow at which Argo has not looked is Argo's to begin",
			edit:   func(wf *wfv1.Workflow) { wf.Status = wfv1.WorkflowStatus{} }, ahead: bookinfo,
		},
		"Input": {
			reason: "what is given to a node is Argo's to say",
			edit: func(wf *wfv1.Workflow) {
				for i := range wf.Spec.Templates {
					if wf.Spec.Templates[i].Suspend != nil {
						wf.Spec.Templates[i].Inputs.Parameters = []wfv1.Parameter{{Name: "p"}}
					}
				}
			}, ahead: bookinfo, want: bookinfo[:1],
		},
	} {
		t.Run(name, func(t *testing.T) {
			wf := firstLook(t)
			if tc.edit != nil {
				tc.edit(wf)
			}
			got, count := execute.Settled(wf, ahead(tc.ahead...), now)
			var ended []string
			for _, n := range got.Status.Nodes {
				if n.Type == wfv1.NodeTypeSuspend && n.Phase == wfv1.NodeSucceeded {
					ended = append(ended, strings.TrimPrefix(n.Name, wf.Name+"."))
				}
			}
			slices.Sort(ended)
			want := slices.Sorted(slices.Values(tc.want))
			if !slices.Equal(ended, want) || count != len(want) {
				t.Errorf("%s: got %d settled, %q, want %q", tc.reason, count, ended, want)
			}
		})
	}
}
