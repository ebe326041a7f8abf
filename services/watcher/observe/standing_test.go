package observe_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/watcher/observe"
)

// A group that is rolled out is not broken because it cannot be looked at again.
func TestStanding(t *testing.T) {
	const (
		doneText         = "generation 3 is rolled out"
		ready, yes, no   = v1alpha1.ConditionReady, metav1.ConditionTrue, metav1.ConditionFalse
		working, stalled = v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled
	)
	requested := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	}
	for name, tc := range map[string]struct {
		reason string
		world  observe.World
		want   want
	}{
		"StandsWhileTheRegistryIsAway": {
			reason: "a registry that is away takes nothing from what is rolled out, and is told of as what is tried",
			world: observe.World{Group: group(requested, condition(ready, yes, "Succeeded", doneText, generation), lastSucceeded(generation),
				condition("Staged", no, "RepositoryUnreachable", "connection refused", generation))},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, working: "True Progressing: connection refused",
			}},
		},
		"StandsWhileValuesAreMissing": {
			reason: "so do values that are looked for again",
			world: observe.World{Group: group(requested, condition(ready, yes, "Succeeded", doneText, generation), lastSucceeded(generation),
				condition("Staged", yes, "Staged", "", generation), condition("Compiled", no, "ValuesNotFound", "no Secret target/web", generation))},
			want: want{Succeeded: generation, Conditions: map[string]string{
				ready: "True Succeeded: " + doneText, working: "True Progressing: no Secret target/web",
			}},
		},
		"StandsAndIsRefused": {
			reason: "what does not heal needs its owner, also where everything stands",
			world: observe.World{Group: group(requested, condition(ready, yes, "Succeeded", doneText, generation), lastSucceeded(generation),
				condition("Staged", no, "ChartNotFound", "no chart web", generation))},
			want: want{Succeeded: generation, Handled: "now", Conditions: map[string]string{
				ready: "False ChartPullFailed: no chart web", stalled: "True ChartPullFailed: no chart web",
			}},
		},
		"NewSpecWhileTheRegistryIsAway": {
			reason: "a new spec is not rolled out because the one before it stands",
			world: observe.World{Group: group(condition(ready, yes, "Succeeded", "generation 2 is rolled out", generation-1), lastSucceeded(generation-1),
				condition("Staged", no, "RepositoryUnreachable", "connection refused", generation))},
			want: want{Succeeded: generation - 1, Conditions: map[string]string{
				ready: "False ChartPullFailed: connection refused", working: "True Progressing: connection refused",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.world.Now = now
			if diff := cmp.Diff(tc.want, summarized(tc.world)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}
