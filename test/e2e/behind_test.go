package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// Argo dies when it has begun a workflow. All of the group's releases come up without it, each in its
// turn, and so do their nodes; when Argo is back it has nothing to do but to end the workflow.
func TestArgoFarBehind(t *testing.T) {
	const name, n = "behind", 10
	s := serve(t)
	add(t, s, "small", "1.0.0", configMapChart())
	argo, err := env.stack.Process("workflow-controller")
	must(t, err)
	create(t, chain(name, s.URL, n))
	eventually(t, time.Minute, "Argo's first look at the workflow of "+name, func(context.Context) error {
		if wfs := workflows(t, name); len(wfs) != 1 || !wfs[0].Status.Nodes.Has(wfs[0].Name) {
			return errors.New("it has no nodes")
		}
		return nil
	})
	must(t, argo.Kill(t.Context()))
	t.Cleanup(func() { must(t, argo.Start(context.WithoutCancel(t.Context()))) })

	tasks := make([]string, n)
	for i := range tasks {
		tasks[i] = fmt.Sprintf("a%d.a%d-a%d", i, i, i)
	}
	var wf wfv1.Workflow
	eventually(t, time.Minute, "all nodes to be there without Argo", func(context.Context) error {
		wf = workflows(t, name)[0]
		for _, task := range tasks {
			if p := wf.Status.Nodes[wf.NodeID(wf.Name+"."+task)].Phase; p != wfv1.NodeSucceeded {
				return fmt.Errorf("%s is %q", task, p)
			}
		}
		return nil
	})
	if p := wf.Status.Nodes[wf.Name].Phase; p != wfv1.NodeRunning {
		t.Errorf("the workflow's own node is %s: it is Argo's to end", p)
	}
	g, err := get(t.Context(), name)
	must(t, err)
	if ready(g) {
		t.Errorf("the group is ready before its workflow has ended: %s", conditions(g))
	}

	must(t, argo.Start(t.Context()))
	awaitReady(t, name, time.Minute, metav1.ConditionTrue, v1alpha1.ReasonSucceeded)
	inOrder(t, name, n)
	once(t, name)
	if wf = workflows(t, name)[0]; wf.Status.Phase != wfv1.WorkflowSucceeded {
		t.Errorf("the workflow is %s: %s", wf.Status.Phase, wf.Status.Message)
	}
	var told, want []string
	tell := func(n events.NodeRef, what string) {
		if n.WorkflowUID == string(wf.UID) {
			told = append(told, n.Task+what)
		}
	}
	for _, f := range facts(t, name) {
		switch data := f.Data.(type) {
		case events.NodeStarted:
			tell(data.NodeRef, " started")
		case events.NodeSucceeded:
			tell(data.NodeRef, " succeeded")
		}
	}
	for _, task := range tasks {
		want = append(want, task+" started", task+" succeeded")
	}
	if !slices.Equal(told, want) {
		t.Errorf("of the nodes is told, in order:\n%s\nwant:\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}
