package observe_test

import (
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

// One group through its life: what is told at each turn, and nothing between them.
func TestTurns(t *testing.T) {
	failed := node("web.redis", wfv1.NodeFailed, 0, "boom")
	g := group()
	var wfs []*wfv1.Workflow
	replace := func(wf *wfv1.Workflow) func() { return func() { wfs[len(wfs)-1] = wf } }
	add := func(wf *wfv1.Workflow) func() { return func() { wfs = append(wfs, wf) } }
	moved := func(generation int64) events.Rollout {
		return events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation}
	}
	spec := func(generation int64, suspend bool) func() {
		return func() { g.Generation, g.Spec.Suspend = generation, suspend }
	}
	next := func(kind events.WorkflowType, phase wfv1.WorkflowPhase, edit ...func(*wfv1.Workflow)) *wfv1.Workflow {
		edit = append([]func(*wfv1.Workflow){of(moved(5)), plans, made(-time.Minute), startedAt(-time.Minute)}, edit...)
		return workflow(kind, phase, edit...)
	}

	for _, step := range []struct {
		reason string
		change func()
		want   []string
	}{
		{"a group that has just come is at work", func() {}, nil},
		{"a chart that is not there is an error", func() {
			condition("Staged", metav1.ConditionFalse, "ChartNotFound", "no web 9.9.9", 3)(g)
		}, []string{"Warning ReconcileError ChartPullFailed: no web 9.9.9", "Warning ChartPullFailed no web 9.9.9"}},
		{"a workflow is begun", func() {
			g.Status.Conditions = g.Status.Conditions[:0]
			add(workflow(events.WorkflowForward, wfv1.WorkflowRunning, plans, startedAt(-time.Hour)))()
		}, []string{"Normal RolloutStarted workflow shop-3-forward, of 5 steps, for generation 3"}},
		{"a step is no turn", replace(workflow(events.WorkflowForward, wfv1.WorkflowRunning, plans, startedAt(-time.Hour),
			node("mesh.mesh", wfv1.NodeSucceeded, 0, ""))), nil},
		{"success is one", replace(workflow(events.WorkflowForward, wfv1.WorkflowSucceeded, plans, startedAt(-time.Hour))),
			[]string{"Normal ReconcileSuccess generation 3 is rolled out"}},
		{"the group is held", spec(4, true),
			[]string{"Normal Suspended held by spec.suspend: the last good generation is 3"}},
		{"and stays so through another change", spec(5, true), nil},
		{"and goes on", spec(5, false), []string{"Normal Resumed generation 5 goes on"}},
		{"a workflow that is tried again has failed", func() {
			g.Spec.Remediation = &v1alpha1.Remediation{Retries: 1}
			add(next(events.WorkflowForward, wfv1.WorkflowFailed, failed))()
		}, []string{
			"Normal RolloutStarted workflow shop-5-forward, of 5 steps, for generation 5",
			"Warning RolloutRetried web.redis: boom; trying again (1 of 1)",
		}},
		{"the last that fails is the end", add(next(events.WorkflowForward, wfv1.WorkflowFailed, again(59), failed)), []string{
			"Normal RolloutStarted workflow shop-5-forward-r59, of 5 steps, for generation 5",
			"Warning ReconcileError WorkflowFailed: web.redis: boom",
		}},
		{"the way back begins", add(next(events.WorkflowRollback, wfv1.WorkflowRunning, made(0))),
			[]string{"Normal RollbackStarted workflow shop-5-rollback, of 5 steps, for generation 5"}},
		{"and ends", replace(next(events.WorkflowRollback, wfv1.WorkflowFailed, made(0), failed)),
			[]string{"Warning RollbackFailed web.redis: boom"}},
		{"the group goes", func() {
			deleting(g)
			g.Generation = 6
			add(next(events.WorkflowReverse, wfv1.WorkflowSucceeded, of(moved(6)), made(time.Second)))()
		}, []string{
			"Normal ReverseStarted workflow shop-6-reverse, of 5 steps, for generation 6",
			"Normal ReverseSucceeded workflow shop-6-reverse succeeded",
		}},
	} {
		step.change()
		status, _ := observe.Summarize(observe.World{Group: g, Workflows: wfs, Now: now})
		var got []string
		for _, e := range observe.Turns(g, status) {
			got = append(got, e.Type+" "+e.Reason+" "+e.Message)
			if e.Key == "" {
				t.Errorf("%s: %s has no key", step.reason, e.Reason)
			}
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.reason, diff)
		}
		written(g, status)
		if rest := observe.Turns(g, status); len(rest) > 0 {
			t.Errorf("%s: told twice: %v", step.reason, rest)
		}
	}
}
