package executor

import (
	"context"
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// heard is a cluster whose executor has an informer that holds the workflow as it is now,
// and stays as it is; reads counts how often the workflow is read live.
func heard(t *testing.T, tasks []string, objects ...client.Object) (c *cluster, reads *int) {
	t.Helper()
	reads = new(int)
	c = newCluster(t, plan.Install, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*wfv1.Workflow); ok {
				*reads++
			}
			return c.Get(ctx, key, o, opts...)
		},
	}, tasks, objects...)
	c.listen()
	*reads = 0
	return c, reads
}

func (c *cluster) workflow() *wfv1.Workflow {
	c.t.Helper()
	wf := &wfv1.Workflow{}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: wfName}, wf); err != nil {
		c.t.Fatal(err)
	}
	return wf
}

// listen has the informer see the workflow as it is now.
func (c *cluster) listen() {
	c.t.Helper()
	informer := fake.NewClientBuilder().WithScheme(c.Scheme()).WithObjects(c.workflow()).Build()
	c.writer.reader.recent = newRecent(informer, namespace)
}

func (c *cluster) lookAt(w wake) {
	c.t.Helper()
	w.workflow = wfName
	if err := c.writer.look(c.t.Context(), w); err != nil {
		c.t.Fatal(err)
	}
}

func TestMostLooksReadNothingLive(t *testing.T) {
	c, reads := heard(t, []string{"web", "db"})
	c.mustLook()
	if *reads == 0 || len(c.there()) != 2 {
		t.Fatalf("before releases are begun the workflow is read: %d reads, begun %v", *reads, c.there())
	}
	*reads = 0
	c.mustLook()
	c.lookAt(wake{activated: []string{"web"}})
	if *reads != 0 {
		t.Errorf("a look that finds nothing to do reads the workflow %d times", *reads)
	}
	c.lookAt(wake{activated: []string{"a-task-that-the-informer-has-not-seen"}})
	c.lookAt(wake{live: true})
	if *reads != 2 {
		t.Errorf("what the informer has not heard of, and what is asked for, is read live: %d reads", *reads)
	}
}

func TestStopComesBeforeWhatTheInformerShows(t *testing.T) {
	c, _ := heard(t, []string{"web"})
	wf := c.workflow()
	wf.Spec.Shutdown = wfv1.ShutdownStrategyTerminate
	if err := c.Update(t.Context(), wf); err != nil {
		t.Fatal(err)
	}
	c.mustLook()
	if got := c.there(); len(got) > 0 {
		t.Errorf("a workflow was stopped, which the informer does not show, and %v begun", got)
	}
}

func TestNewerGenerationComesBeforeWhatTheInformerShows(t *testing.T) {
	c, _ := heard(t, []string{"web"})
	if err := newerGeneration(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	if err := c.look(); !events.IsSuperseded(err) {
		t.Errorf("the older generation is superseded: got %v", err)
	}
	if got := c.release("web").Spec.ReleaseName; got != "newer" {
		t.Errorf("what the newer generation made stays: got %q", got)
	}
}

// What was settled is known before the informer shows it.
func TestOwnSettlementIsNotForgotten(t *testing.T) {
	c, reads := heard(t, []string{"web", "db"})
	c.mustLook()
	c.becomesReady("web")
	c.mustLook()
	want := map[string]string{"web": "Succeeded", "db": "Running"}
	if diff := cmp.Diff(want, c.nodes()); diff != "" {
		t.Fatalf("nodes (-want +got):\n%s", diff)
	}
	version := c.workflow().ResourceVersion
	*reads = 0
	c.mustLook()
	if got := c.workflow().ResourceVersion; got != version || *reads != 1 { // ours
		t.Errorf("a node is settled once: version %s became %s, with %d reads", version, got, *reads-1)
	}
	c.becomesReady("db")
	c.mustLook()
	want["db"] = "Succeeded"
	if diff := cmp.Diff(want, c.nodes()); diff != "" {
		t.Errorf("and the next one upon it (-want +got):\n%s", diff)
	}
}
