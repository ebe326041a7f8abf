package groupstatus

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
)

func TestCompleteKeepsTheTimeOfAnUnchangedStatus(t *testing.T) {
	since := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Generation: 7}}
	g.Status.Conditions = []metav1.Condition{{Type: "Staged", Status: metav1.ConditionTrue, LastTransitionTime: since}}
	same := complete(metav1.Condition{Type: "Staged", Status: metav1.ConditionTrue, Message: strings.Repeat("m", maxMessage+1)}, g)
	if !same.LastTransitionTime.Equal(&since) || same.ObservedGeneration != 7 || len(same.Message) != maxMessage {
		t.Errorf("since %s, generation %d, message of %d bytes", same.LastTransitionTime, same.ObservedGeneration, len(same.Message))
	}
	other := complete(metav1.Condition{Type: "Staged", Status: metav1.ConditionFalse}, g)
	if other.LastTransitionTime.Equal(&since) {
		t.Error("a status that changed kept the time of the old one")
	}
}

func TestNothingIsWrittenWhereNothingChanged(t *testing.T) {
	cond := metav1.Condition{Type: "Staged", Status: metav1.ConditionTrue, Reason: "Staged", ObservedGeneration: 1}
	g := &v1alpha1.ApplicationGroup{}
	g.Status.Conditions = []metav1.Condition{cond}
	owned := func(fields string) {
		g.ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: "me", Operation: metav1.ManagedFieldsOperationApply, Subresource: "status",
			FieldsV1: metav1.NewFieldsV1(fields),
		}}
	}
	desired := v1alpha1.ApplicationGroupStatus{Conditions: []metav1.Condition{cond}}

	owned(`{"f:status":{"f:conditions":{"k:{\"type\":\"Staged\"}":{".":{}}}}}`)
	if !said(t, g, desired, "me") {
		t.Error("the group says it all already, and would be written again")
	}
	owned(`{"f:status":{"f:conditions":{"k:{\"type\":\"Staged\"}":{".":{}},"k:{\"type\":\"Stalled\"}":{".":{}}}}}`)
	if said(t, g, desired, "me") {
		t.Error("a condition that the manager no longer states would stay")
	}
	if said(t, g, desired, "another") {
		t.Error("what another manager said was taken for our own")
	}
}

func said(t *testing.T, g *v1alpha1.ApplicationGroup, desired v1alpha1.ApplicationGroupStatus, manager string) bool {
	t.Helper()
	yes, err := says(g, desired, manager)
	if err != nil {
		t.Fatal(err)
	}
	return yes
}

func TestTheMarksAreCompared(t *testing.T) {
	g := &v1alpha1.ApplicationGroup{}
	g.Status.LastUnchangedRollout = "u/1"
	g.Status.Rollout = &v1alpha1.RolloutStatus{Workflow: "web-1", Type: "forward", Generation: 1}
	g.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "me", Operation: metav1.ManagedFieldsOperationApply, Subresource: "status",
		FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:lastUnchangedRollout":{},"f:rollout":{"f:workflow":{},"f:type":{},"f:generation":{},"f:done":{}}}}`),
	}}
	desired := *g.Status.DeepCopy()
	if !said(t, g, desired, "me") {
		t.Error("what is there would be written again")
	}
	desired.Rollout.Done = 1
	if said(t, g, desired, "me") {
		t.Error("a node that is done is news")
	}
	desired.Rollout = nil
	if said(t, g, desired, "me") {
		t.Error("a workflow that is no longer told of would stay")
	}
}
