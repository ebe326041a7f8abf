package observe_test

import (
	"testing"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/watcher/observe"
)

// Argo hears late of what the executor does ahead of it: a user is not to wait for that.
func TestProgressAheadOfArgo(t *testing.T) {
	hr := func(task, workflow string, ready metav1.ConditionStatus) *helmv2.HelmRelease {
		hr := &helmv2.HelmRelease{}
		hr.Name, hr.Generation, hr.Status.ObservedGeneration = task, 1, 1
		hr.Labels = map[string]string{v1alpha1.LabelApplication: task}
		hr.Annotations = map[string]string{v1alpha1.AnnotationNode: task, v1alpha1.AnnotationWorkflowUID: workflow}
		hr.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: ready, ObservedGeneration: 1}}
		return hr
	}
	argo := []func(*wfv1.Workflow){node("a", wfv1.NodeSucceeded, 0, ""), node("b", wfv1.NodeRunning, 0, "")}
	releases := []*helmv2.HelmRelease{
		hr("a", "uid-wf", metav1.ConditionTrue), hr("b", "uid-wf", metav1.ConditionTrue), hr("c", "uid-wf", metav1.ConditionTrue),
		hr("d", "uid-wf", metav1.ConditionUnknown), hr("e", "older", metav1.ConditionTrue),
	}
	for name, tc := range map[string]struct {
		reason   string
		kind     events.WorkflowType
		phase    wfv1.WorkflowPhase
		expr     string
		done     int32
		progress string
	}{
		"Ahead":   {"a node that Argo has as running, and one that it has not", events.WorkflowForward, wfv1.WorkflowRunning, "", 3, "workflow shop-3-forward is running: 3 done, 1 active"},
		"Gated":   {"what its expression says of a release is seen in its node", events.WorkflowForward, wfv1.WorkflowRunning, "true", 2, "workflow shop-3-forward is running: 2 done, 2 active"},
		"Reverse": {"a release that is there is not one that is gone", events.WorkflowReverse, wfv1.WorkflowRunning, "", 1, ""},
		"Over":    {"in the end Argo has the word", events.WorkflowForward, wfv1.WorkflowFailed, "", 1, ""},
	} {
		g := group()
		c := v1alpha1.Application{DAG: v1alpha1.DAG{Name: "c"}}
		c.Spec.Release.ReadyExpr = tc.expr
		g.Spec.Applications = append(g.Spec.Applications, c)
		wf := workflow(tc.kind, tc.phase, argo...)
		status, _ := observe.Summarize(observe.World{Group: g, Workflows: []*wfv1.Workflow{wf}, Releases: releases, Now: now})
		if status.Rollout.Done != tc.done {
			t.Errorf("%s: %s: %d done, want %d", name, tc.reason, status.Rollout.Done, tc.done)
		}
		for _, c := range status.Conditions {
			if c.Type == v1alpha1.ConditionReady && tc.progress != "" && c.Message != tc.progress {
				t.Errorf("%s: %s: Ready says %q, want %q", name, tc.reason, c.Message, tc.progress)
			}
		}
	}
}
