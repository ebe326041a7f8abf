package compiler

import (
	"maps"
	"slices"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	argo "github.com/argoproj/argo-workflows/v3/workflow/common"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

// ended plays Argo and the watcher: the workflow has ended so, and the group says it.
func (c *cluster) ended(workflow string, phase wfv1.WorkflowPhase) {
	c.t.Helper()
	wf := c.workflows()[workflow]
	wf.Labels[argo.LabelKeyPhase], wf.Labels[argo.LabelKeyCompleted] = string(phase), "true"
	wf.Status.Phase = phase
	if err := c.Update(c.t.Context(), &wf); err != nil {
		c.t.Fatal(err)
	}
	var group v1alpha1.ApplicationGroup
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: "g"}, &group); err != nil {
		c.t.Fatal(err)
	}
	group.Status.Rollout = &v1alpha1.RolloutStatus{Workflow: workflow, Phase: string(phase), Started: new(metav1.Now())}
	if err := c.Status().Update(c.t.Context(), &group); err != nil {
		c.t.Fatal(err)
	}
}

// One release of three has another value.
func TestOnlyWhatChangedHasANode(t *testing.T) {
	for name, tc := range map[string]struct {
		reason  string
		before  func(c *cluster, workflow string)
		tasks   []string
		message string
	}{
		"AtRest": {"two stand", func(c *cluster, workflow string) { c.ended(workflow, wfv1.WorkflowSucceeded) },
			[]string{"b.b-b"}, " has 1 of 3 releases: the others are as they should be"},
		"Failed": {"an executor may be late", func(c *cluster, workflow string) { c.ended(workflow, wfv1.WorkflowFailed) },
			[]string{"a.a-a", "a.a-x", "b.b-b"}, " has 3 releases"},
		"Unknown": {"of the newest workflow nothing is said", func(*cluster, string) {}, []string{"a.a-a", "a.a-x", "b.b-b"}, " has 3 releases"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, newGroup())
			first := rollout(3)
			c.must(events.New(first, chartsStaged))
			workflow := compile.WorkflowName(first, events.WorkflowForward, 0)
			c.install(workflow)
			tc.before(c, workflow)
			c.must(succeededFact(first, events.WorkflowForward, 0))
			next := c.edit(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[1].Spec.Release.MaxHistory = new(9) })
			for _, nth := range []string{"first", "second"} {
				facts := c.must(events.New(next, chartsStaged))
				if submitted, ok := facts[0].Data.(events.WorkflowSubmitted); !ok || submitted.Releases != len(tc.tasks) {
					t.Errorf("the %s time: %s: said %+v", nth, tc.reason, facts)
				}
				name := compile.WorkflowName(next, events.WorkflowForward, 0)
				if got := c.compiled().Message; got != "workflow "+name+tc.message {
					t.Errorf("the %s time: %s: %q", nth, tc.reason, got)
				}
				nodes, _ := c.plan(name)
				if diff := cmp.Diff(tc.tasks, slices.Sorted(maps.Keys(nodes))); diff != "" {
					t.Errorf("the %s time: %s (-want +got):\n%s", nth, tc.reason, diff)
				}
			}
		})
	}
}

func TestNewestSucceeded(t *testing.T) {
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	wf := func(name, phase string, after time.Duration) metav1.PartialObjectMetadata {
		o := metav1.PartialObjectMetadata{}
		o.Name, o.CreationTimestamp = name, metav1.NewTime(began.Add(after))
		o.Labels = map[string]string{argo.LabelKeyPhase: phase, argo.LabelKeyCompleted: "true"}
		return o
	}
	for name, tc := range map[string]struct {
		all  []metav1.PartialObjectMetadata
		want bool
	}{
		"it is the newest":                       {[]metav1.PartialObjectMetadata{wf("w", "Succeeded", 0), wf("older", "Failed", -time.Second)}, true},
		"Argo has deleted it":                    {[]metav1.PartialObjectMetadata{wf("older", "Failed", -time.Hour)}, true},
		"nothing is left":                        {nil, true},
		"a newer one":                            {[]metav1.PartialObjectMetadata{wf("w", "Succeeded", 0), wf("newer", "Succeeded", time.Second)}, false},
		"one of the same second":                 {[]metav1.PartialObjectMetadata{wf("w", "Succeeded", 0), wf("same", "Failed", 0)}, false},
		"a newer one, and it was deleted":        {[]metav1.PartialObjectMetadata{wf("newer", "Failed", time.Second)}, false},
		"the status is behind, and it has ended": {[]metav1.PartialObjectMetadata{wf("w", "Failed", 0)}, false},
		"it runs":                                {[]metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{Name: "w"}}}, false},
	} {
		if got := newestSucceeded(tc.all, "w", began); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// Another replica sees the group otherwise, and replaces the plan between ours and our workflow.
func TestThePlanOfAWorkflowIsItsOwn(t *testing.T) {
	c := newCluster(t, newGroup())
	other := true
	c.before = func(verb string, obj client.Object) error {
		wf, ok := obj.(*wfv1.Workflow)
		if !ok || verb != "create" || !other {
			return nil
		}
		other = false
		_, secrets := c.plan(wf.Name)
		theirs := secrets[0].DeepCopy()
		delete(theirs.Data, "b.b-b")
		return c.Update(t.Context(), theirs)
	}
	if _, err := c.handle(events.New(rollout(3), chartsStaged)); err == nil || len(c.workflows()) > 0 {
		t.Fatalf("a workflow without its plan is taken back, and made again later: %v, %v", err, c.workflows())
	} else if _, again := events.RetryDelay(err); !again {
		t.Errorf("that is no failure: %v", err)
	}
	c.must(events.New(rollout(3), chartsStaged))
	nodes, _ := c.plan(compile.WorkflowName(rollout(3), events.WorkflowForward, 0))
	if len(nodes) != 3 || len(c.workflows()) != 1 {
		t.Errorf("a plan of %d nodes for %d workflows", len(nodes), len(c.workflows()))
	}
}
