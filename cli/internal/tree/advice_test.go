package tree_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

func TestAdvice(t *testing.T) {
	ready := func(reason string) metav1.Condition {
		return condition(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, "no")
	}
	failed, stalled := ready(v1alpha1.ReasonWorkflowFailed), condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, "", "")
	way := func(kind string, status metav1.ConditionStatus) metav1.Condition {
		return condition(kind, status, "", "")
	}
	older := way(v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)
	older.ObservedGeneration = 1
	held := group(ready(v1alpha1.ReasonSuspended))
	held.Spec.Suspend = true
	going, stuck := group(ready(v1alpha1.ReasonTerminating)), group(ready(v1alpha1.ReasonTerminating), stalled)
	going.DeletionTimestamp, stuck.DeletionTimestamp = new(at(0)), new(at(0))
	cases := map[string]struct {
		reason     string
		group      *v1alpha1.ApplicationGroup
		text, verb string
	}{
		"New":        {reason: "nothing is known", group: group()},
		"Ready":      {reason: "there is nothing to do", group: group(condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSucceeded, ""))},
		"Degraded":   {reason: "it is not what was rolled out", group: group(condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSucceeded, ""), condition(v1alpha1.ConditionDegraded, metav1.ConditionTrue, "", "web is gone")), text: "spec.interval", verb: "reconcile"},
		"Underway":   {reason: "it is on its way back", group: group(failed)},
		"RolledBack": {reason: "it is known what runs", group: group(failed, stalled, way(v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionTrue)), text: "back at its last good revision", verb: "retry"},
		"Removed":    {reason: "or that nothing does", group: group(failed, stalled, way(v1alpha1.ConditionReverseWorkflowSucceeded, metav1.ConditionTrue)), text: "was removed", verb: "retry"},
		"Stuck":      {reason: "a way back that failed is no way back", group: group(failed, stalled, way(v1alpha1.ConditionRollbackWorkflowSucceeded, metav1.ConditionFalse)), text: "failed too", verb: "retry"},
		"Kept":       {reason: "that of another generation says nothing", group: group(failed, stalled, older), text: "left as it is", verb: "retry"},
		"Pulling":    {reason: "nothing was begun", group: group(ready(v1alpha1.ReasonChartPullFailed)), text: "stays as it is", verb: "retry"},
		"Suspended":  {reason: "somebody holds it", group: held, text: "To let it go on", verb: "resume"},
		"Going":      {reason: "it is being removed", group: going},
		"WillNotGo":  {reason: "something of it does not go", group: stuck, text: "stays until", verb: "delete --force"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			text, verb := tree.Advice(tc.group)
			if verb != tc.verb || !strings.Contains(text, tc.text) || (text == "") != (verb == "") {
				t.Errorf("%s: got %q, %q", tc.reason, text, verb)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	want := []string{"one two", "three-and-more", "four"}
	if diff := cmp.Diff(want, tree.Wrap(" one\ntwo three-and-more  four", 8)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is asked for and nobody has begun is not told of as what was before.
func TestWhatNobodyHasBegun(t *testing.T) {
	g := group(condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSucceeded, "generation 2 is rolled out"))
	g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	g.Status.Rollout = &v1alpha1.RolloutStatus{Generation: 2, Type: "forward", Progress: "4/4"}
	if n := tree.Of(tree.State{Group: g}); n.Phase != tree.Working || n.Message != "waiting for another rollout to be begun" {
		t.Errorf("another rollout: %s %q", n.Phase, n.Message)
	}
	g.Status.LastHandledReconcileAt = "now"
	if n := tree.Of(tree.State{Group: g}); n.Phase != tree.Ready || n.Message != "forward 4/4; generation 2 is rolled out" {
		t.Errorf("handled: %s %q", n.Phase, n.Message)
	}
	g.Generation, g.DeletionTimestamp = 3, new(at(0))
	if n := tree.Of(tree.State{Group: g}); n.Phase != tree.Deleting || n.Message != "waiting for its removal to be begun" {
		t.Errorf("a deletion: %s %q", n.Phase, n.Message)
	}
}
