package admit

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

func TestNext(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	current := events.Rollout{Group: "g", UID: "u", Generation: 3}
	older := events.Rollout{Group: "g", UID: "u", Generation: 2}
	group := func(change ...func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup {
		g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "g", UID: "u", Generation: 3, Finalizers: []string{v1alpha1.Finalizer}}}
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
	deleting := func(g *v1alpha1.ApplicationGroup) { g.DeletionTimestamp = &now }
	noFinalizer := func(g *v1alpha1.ApplicationGroup) { g.Finalizers = []string{"somebody.else/finalizer"} }
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
		"ReverseDeletedByHand": {
			reason: "a reverse workflow that somebody deleted is asked for again",
			state:  State{Group: group(deleting), Rollout: current, Releases: 1, Overdue: true}, want: AskAgain,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, why := Next(tc.state)
			if got != tc.want {
				t.Errorf("%s: got %s, want %s", tc.reason, got, tc.want)
			}
			if !strings.Contains(why, tc.why) {
				t.Errorf("%s: the refusal %q does not say %q", tc.reason, why, tc.why)
			}
		})
	}
}
