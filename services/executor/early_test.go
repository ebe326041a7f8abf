package executor

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/pkg/plan"
)

// ahead makes the workflow a DAG of its nodes, of which Argo has activated only those
// that have no dependencies, and lets the executor go ahead of it.
func (c *cluster) ahead(dependencies map[string][]string) *cluster {
	c.t.Helper()
	wf := &wfv1.Workflow{}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: wfName}, wf); err != nil {
		c.t.Fatal(err)
	}
	dag := &wfv1.DAGTemplate{}
	for task, before := range dependencies {
		dag.Tasks = append(dag.Tasks, wfv1.DAGTask{Name: task, Template: "wait", Dependencies: before})
		if len(before) > 0 {
			delete(wf.Status.Nodes, "id-"+task)
		}
	}
	wf.Spec.Entrypoint = "entry"
	wf.Spec.Templates = []wfv1.Template{{Name: "entry", DAG: dag}, {Name: "wait", Suspend: &wfv1.SuspendTemplate{}}}
	if err := c.Update(c.t.Context(), wf); err != nil {
		c.t.Fatal(err)
	}
	c.writer.reader.early = true
	return c
}

func (c *cluster) becomesReady(name string) {
	c.t.Helper()
	hr := c.release(name)
	makeReady(hr)
	if err := c.Status().Update(c.t.Context(), hr); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) there() []string {
	c.t.Helper()
	var list helmv2.HelmReleaseList
	if err := c.List(c.t.Context(), &list); err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, hr := range list.Items {
		out = append(out, hr.Name)
	}
	return out
}

// A chain goes to its end while Argo has only seen its beginning.
func TestLookGoesAheadOfArgo(t *testing.T) {
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"a", "b", "c"}).
		ahead(map[string][]string{"a": nil, "b": {"a"}, "c": {"b"}})
	for _, want := range [][]string{{"a"}, {"a", "b"}, {"a", "b", "c"}} {
		c.mustLook()
		c.mustLook() // a second replica has nothing to do
		if diff := cmp.Diff(want, c.there()); diff != "" {
			t.Errorf("releases that were begun (-want +got):\n%s", diff)
		}
		c.becomesReady(want[len(want)-1])
	}
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"a": "Succeeded"}, c.nodes()); diff != "" {
		t.Errorf("only what Argo has activated is settled (-want +got):\n%s", diff)
	}
}

// What is as wanted is done at once, and the look goes on to the next level; but first it
// sees whether somebody has stopped the workflow.
func TestLookIsStoppedBetweenLevels(t *testing.T) {
	ready := func(name string) *helmv2.HelmRelease { return release(name, makeReady) }
	stop := false
	on := interceptor.Funcs{Update: func(ctx context.Context, cl client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
		if hr, ok := o.(*helmv2.HelmRelease); ok && hr.Name == "a" && stop {
			wf := &wfv1.Workflow{}
			if err := cl.Get(ctx, client.ObjectKey{Namespace: namespace, Name: wfName}, wf); err != nil {
				return err
			}
			wf.Spec.Shutdown = wfv1.ShutdownStrategyTerminate
			if err := cl.Update(ctx, wf); err != nil {
				return err
			}
		}
		return cl.Update(ctx, o, opts...)
	}}
	for name, want := range map[string]string{"goes on": wfName, "stopped": ""} {
		t.Run(name, func(t *testing.T) {
			stop = false
			c := newCluster(t, plan.Install, on, []string{"a", "b"}, ready("a"), ready("b")).ahead(map[string][]string{"a": nil, "b": {"a"}})
			stop = want == ""
			c.mustLook()
			if got := c.release("b").Annotations["orkestra.azure.microsoft.com/workflow"]; got != want {
				t.Errorf("b was written for workflow %q, want %q", got, want)
			}
		})
	}
}

// Nodes that are done while others are under way are settled together, a moment later.
func TestLookSettlesTogether(t *testing.T) {
	c := newCluster(t, plan.Install, interceptor.Funcs{}, []string{"a", "b", "c"}).
		ahead(map[string][]string{"a": nil, "b": nil, "c": nil})
	var again []string
	c.writer.later = func(workflow, _ string, _ time.Duration) { again = append(again, workflow) }
	at := time.Now()
	c.writer.reader.now = func() time.Time { return at }
	wf := &wfv1.Workflow{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: wfName}, wf); err != nil {
		t.Fatal(err)
	}
	for id, n := range wf.Status.Nodes {
		n.StartedAt = metav1.Time{Time: at}
		wf.Status.Nodes[id] = n
	}
	if err := c.Update(t.Context(), wf); err != nil {
		t.Fatal(err)
	}
	c.mustLook()
	for i := range 100 { // a group that is large enough
		hr := release(fmt.Sprintf("other-%d", i))
		c.writer.reader.plans.byID["uid-wf"][hr.Name] = plan.Node{Task: hr.Name, Action: plan.Install, Release: hr}
	}
	c.becomesReady("a")
	c.mustLook()
	c.becomesReady("b")
	c.mustLook()
	running := map[string]string{"a": "Running", "b": "Running", "c": "Running"}
	if diff := cmp.Diff(running, c.nodes()); diff != "" || len(again) != 2 {
		t.Errorf("they wait for each other, and are looked at again: %v (-want +got):\n%s", again, diff)
	}
	at = at.Add(time.Minute)
	c.mustLook()
	if diff := cmp.Diff(map[string]string{"a": "Succeeded", "b": "Succeeded", "c": "Running"}, c.nodes()); diff != "" {
		t.Errorf("not for long (-want +got):\n%s", diff)
	}
}

func TestPostponedLooksOnce(t *testing.T) {
	looks := make(chan wake, 2)
	p := newPostponed(t.Context(), newWakes(func(_ context.Context, w wake) error {
		looks <- w
		return nil
	}), slog.New(slog.DiscardHandler))
	p.look("wf", "shop", time.Millisecond)
	p.look("wf", "shop", time.Millisecond)
	if diff := cmp.Diff(wake{workflow: "wf"}, <-looks, cmp.AllowUnexported(wake{})); diff != "" {
		t.Errorf("the look (-want +got):\n%s", diff)
	}
	p.look("wf", "shop", time.Millisecond)
	<-looks
	if len(looks) > 0 {
		t.Error("a workflow that is to be looked at in a moment is looked at once")
	}
}
