package admit

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// group is one that can be rolled out.
func group(change ...func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{
		Name: "g", UID: "u", Generation: 3, Finalizers: []string{v1alpha1.Finalizer},
		CreationTimestamp: metav1.NewTime(now.Add(-24 * time.Hour)),
	}}
	g.Spec.Applications = []v1alpha1.Application{{
		DAG: v1alpha1.DAG{Name: "a"},
		Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "a", Version: "1.0.0"},
			Release: v1alpha1.Release{TargetNamespace: "a"},
		},
	}}
	for _, c := range change {
		c(g)
	}
	return g
}

func TestNext(t *testing.T) {
	current := events.Rollout{Group: "g", UID: "u", Generation: 3}
	older := events.Rollout{Group: "g", UID: "u", Generation: 2}
	deleting := func(g *v1alpha1.ApplicationGroup) { g.DeletionTimestamp = new(metav1.NewTime(now)) }
	noFinalizer := func(g *v1alpha1.ApplicationGroup) { g.Finalizers = []string{"somebody.else/finalizer"} }
	held := func(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true }
	forced := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationForceDelete: "true"}
	}
	orphaning := func(g *v1alpha1.ApplicationGroup) { g.Finalizers = append(g.Finalizers, "orphan") }
	alone := func(g *v1alpha1.ApplicationGroup) {
		g.Annotations = map[string]string{v1alpha1.AnnotationOrphan: "true"}
	}
	cyclic := func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Dependencies = []string{"a"} }

	for name, tc := range map[string]struct {
		reason string
		state  State
		want   Action
		why    string
	}{
		"New": {
			reason: "nothing is done for a group before a deletion would wait for it",
			state:  State{Group: group(noFinalizer)}, want: AddFinalizer,
		},
		"Valid":   {reason: "a valid spec is announced", state: State{Group: group()}, want: Announce},
		"Invalid": {reason: "a cycle is refused and spelled out", state: State{Group: group(cyclic)}, want: Refuse, why: "a -> a"},
		"InvalidExpression": {
			reason: "an expression that does not compile is refused with its field", want: Refuse, why: "spec.release.readyExpr",
			state: State{Group: group(func(g *v1alpha1.ApplicationGroup) { g.Spec.Applications[0].Spec.Release.ReadyExpr = "self.status ==" })},
		},
		"Held":           {reason: "a group that is held is not announced", state: State{Group: group(held)}, want: Suspend},
		"HeldAndNew":     {reason: "a deletion waits for a group that is held, too", state: State{Group: group(held, noFinalizer)}, want: AddFinalizer},
		"HeldAndInvalid": {reason: "what is refused is refused, held or not", state: State{Group: group(held, cyclic)}, want: Refuse, why: "a -> a"},
		"HeldAndDeleted": {
			reason: "a group that is held is deleted like any other",
			state:  State{Group: group(held, deleting), Rollout: current, Releases: 2}, want: AnnounceDeletion,
		},
		"Forced": {
			reason: "what is forced out is not waited for",
			state: State{Group: group(deleting, forced), Rollout: current, Releases: 1, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: current},
			}},
			want: Force,
		},
		"ForcedInVain": {
			reason: "a group that is not being deleted is not forced out",
			state:  State{Group: group(forced)}, want: Announce,
		},
		"ForcedAtTheEnd": {
			reason: "where nothing is left there is nothing to force",
			state:  State{Group: group(deleting, forced), Rollout: current}, want: Release,
		},
		"NotOurs": {
			reason: "a deleted group without our finalizer had nothing made for it, or is released already",
			state:  State{Group: group(noFinalizer, deleting)}, want: Nothing,
		},
		"NothingThere": {
			reason: "a deleted group without releases goes at once",
			state:  State{Group: group(deleting)}, want: Release,
		},
		"InvalidAndDeleted": {
			reason: "a spec that was refused does not keep the group",
			state:  State{Group: group(cyclic, deleting)}, want: Release,
		},
		"Deleted": {
			reason: "a deletion with releases asks for the reverse",
			state:  State{Group: group(deleting), Rollout: current, Releases: 2}, want: AnnounceDeletion,
		},
		"DeletedInMidRollout": {
			reason: "a forward workflow that runs is not waited for: the compiler stops it",
			state: State{Group: group(deleting), Rollout: current, Workflows: []Workflow{
				{Type: events.WorkflowForward, Rollout: older},
			}},
			want: AnnounceDeletion,
		},
		"Reversing": {
			reason: "a reverse workflow that runs is waited for, even when the last release is gone",
			state: State{Group: group(deleting), Rollout: current, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: current},
			}},
			want: Wait,
		},
		"Reversed": {
			reason: "when the reverse is done the group goes",
			state: State{Group: group(deleting), Rollout: current, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: current, Finished: true, Succeeded: true},
			}},
			want: Release,
		},
		"ReversedWithRest": {
			reason: "a release that came in late, beside the reverse, asks for another reverse",
			state: State{Group: group(deleting), Rollout: current, Releases: 1, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: current, Finished: true, Succeeded: true},
			}},
			want: AskAgain,
		},
		"ReverseFailed": {
			reason: "a release that will not go keeps the group, without a loop",
			state: State{Group: group(deleting), Rollout: current, Releases: 1, Overdue: true, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: current, Finished: true},
			}},
			want: Wait,
		},
		"ReverseFailedBeforeTheRequest": {
			reason: "a failed reverse of an older request does not stand in the way of a newer one",
			state: State{Group: group(deleting), Rollout: current, Releases: 1, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: older, Finished: true},
			}},
			want: AnnounceDeletion,
		},
		"DeletedAlone": {
			reason: "that the releases are to stay is written down while it can be seen",
			state:  State{Group: group(deleting, orphaning), Rollout: current, Releases: 2}, want: RecordOrphan,
		},
		"DeletedAloneWhileNobodyLooked": {
			reason: "and where that is over, it shows on what the group owned",
			state:  State{Group: group(deleting), Rollout: current, Releases: 2, Disowned: true}, want: RecordOrphan,
		},
		"AloneAndTheChartsAreOwned": {
			reason: "the charts of the releases would go with the group",
			state:  State{Group: group(deleting, orphaning, alone), Rollout: current, Releases: 2}, want: Wait,
		},
		"Alone": {
			reason: "nothing is reversed of a group that goes alone",
			state:  State{Group: group(deleting, alone), Rollout: current, Releases: 2}, want: Orphan,
		},
		"AloneAfterAll": {
			reason: "a reverse that runs is stopped, rather than waited for",
			state: State{Group: group(deleting, alone), Rollout: current, Releases: 1, Workflows: []Workflow{
				{Type: events.WorkflowReverse, Rollout: current},
			}},
			want: Orphan,
		},
		"AloneAndNotDeleted": {
			reason: "a group that is not being deleted is rolled out, whatever is written on it",
			state:  State{Group: group(alone), Rollout: current}, want: Announce,
		},
		"ReverseDeletedByHand": {
			reason: "a reverse workflow that somebody deleted is asked for again",
			state:  State{Group: group(deleting), Rollout: current, Releases: 1, Overdue: true}, want: AskAgain,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Next(tc.state)
			if got.Action != tc.want {
				t.Errorf("%s: got %s, want %s", tc.reason, got.Action, tc.want)
			}
			if !strings.Contains(got.Why, tc.why) {
				t.Errorf("%s: the refusal %q does not say %q", tc.reason, got.Why, tc.why)
			}
		})
	}
}
