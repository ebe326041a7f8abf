package history_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/history"
	"orkestra.dev/pkg/events"
	"orkestra.dev/services/compiler/compile"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const uid = "6c1f5c4e-7b1e-4a54-8a4d-0e5f1d2c3b4a"

// at is the rollout of a generation.
func at(generation int64) events.Rollout {
	return events.Rollout{Group: "shop", UID: uid, Generation: generation}
}

func specOf(version string) v1alpha1.ApplicationGroupSpec {
	return v1alpha1.ApplicationGroupSpec{Applications: []v1alpha1.Application{{
		DAG:  v1alpha1.DAG{Name: "web"},
		Spec: v1alpha1.ApplicationSpec{Chart: v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "web", Version: version}},
	}}}
}

func groupAt(generation int64, version string) *v1alpha1.ApplicationGroup {
	return &v1alpha1.ApplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: uid, Generation: generation}, Spec: specOf(version),
	}
}

// object is a revision as the compiler keeps it: of a version that was asked for, and
// what it came to.
func object(t *testing.T, r events.Rollout, good bool, asked, version string) appsv1.ControllerRevision {
	t.Helper()
	o, err := compile.Revision{Rollout: r, Spec: specOf(asked), Staged: []events.StagedApplication{{
		Name: "web", Chart: "web", Version: version,
		Pieces: []events.StagedPiece{{Subchart: "db", SubchartVersion: "0.1.0"}, {Chart: "web", Version: version}},
	}}}.Object(compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(r.Generation) * time.Minute))
	if good {
		o.Labels[v1alpha1.LabelRevision] = v1alpha1.RevisionGood
	}
	return *o
}

func workflow(r events.Rollout, kind events.WorkflowType, phase wfv1.WorkflowPhase) wfv1.Workflow {
	wf := wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{
		Name: compile.WorkflowName(r, kind, 0), Labels: map[string]string{v1alpha1.LabelWorkflowType: string(kind)},
		Annotations: map[string]string{v1alpha1.AnnotationRollout: fmt.Sprintf(`{"group":"shop","uid":%q,"generation":%d}`, r.UID, r.Generation)},
	}}
	wf.Status.Phase = phase
	return wf
}

func TestStatus(t *testing.T) {
	stopped := workflow(at(2), events.WorkflowForward, wfv1.WorkflowFailed)
	stopped.Spec.Shutdown = wfv1.ShutdownStrategyStop
	held := workflow(at(2), events.WorkflowForward, wfv1.WorkflowRunning)
	held.Spec.Suspend = new(true)
	retry := workflow(at(2), events.WorkflowForward, wfv1.WorkflowRunning)
	retry.Name, retry.CreationTimestamp = "retry", metav1.NewTime(start)
	failed := workflow(at(2), events.WorkflowForward, wfv1.WorkflowFailed)
	cases := map[string]struct {
		reason    string
		good      bool
		workflows []wfv1.Workflow
		rollout   *v1alpha1.RolloutStatus
		want      [2]history.Status // of the second revision, and of the first, which is good
	}{
		"Good":           {reason: "the newest that is good is the current one", good: true, want: [2]history.Status{history.Current, history.Good}},
		"Underway":       {reason: "a rollout that is under way goes from the current one", workflows: []wfv1.Workflow{workflow(at(2), events.WorkflowForward, wfv1.WorkflowRunning)}, want: [2]history.Status{history.Underway, history.Current}},
		"Unmarked":       {reason: "one that has succeeded is good in a moment", workflows: []wfv1.Workflow{workflow(at(2), events.WorkflowForward, wfv1.WorkflowSucceeded)}, want: [2]history.Status{history.Underway, history.Current}},
		"Suspended":      {reason: "a workflow may be held", workflows: []wfv1.Workflow{held}, want: [2]history.Status{history.Suspended, history.Current}},
		"Failed":         {reason: "with nobody to undo it", workflows: []wfv1.Workflow{failed}, want: [2]history.Status{history.Failed, history.Current}},
		"Retried":        {reason: "the newest try counts", workflows: []wfv1.Workflow{retry, failed}, want: [2]history.Status{history.Underway, history.Current}},
		"Stopped":        {reason: "by a newer one", workflows: []wfv1.Workflow{stopped}, want: [2]history.Status{history.Superseded, history.Current}},
		"RollingBack":    {reason: "on the way back", workflows: []wfv1.Workflow{failed, workflow(at(2), events.WorkflowRollback, wfv1.WorkflowPending)}, want: [2]history.Status{history.RollingBack, history.Current}},
		"RolledBack":     {reason: "back", workflows: []wfv1.Workflow{workflow(at(2), events.WorkflowRollback, wfv1.WorkflowSucceeded), failed}, want: [2]history.Status{history.RolledBack, history.Current}},
		"RollbackFailed": {reason: "the way back failed too", workflows: []wfv1.Workflow{failed, workflow(at(2), events.WorkflowRollback, wfv1.WorkflowError)}, want: [2]history.Status{history.Failed, history.Current}},
		"Removed":        {reason: "after a reverse nothing is current", workflows: []wfv1.Workflow{failed, workflow(at(2), events.WorkflowReverse, wfv1.WorkflowSucceeded)}, want: [2]history.Status{history.Removed, history.Good}},
		"Unknown":        {reason: "without a workflow, nobody knows", want: [2]history.Status{history.Unknown, history.Current}},
		"Told":           {reason: "unless the group's status tells", rollout: &v1alpha1.RolloutStatus{Generation: 2, Type: "rollback", Workflow: "x", Phase: "Succeeded"}, want: [2]history.Status{history.RolledBack, history.Current}},
		"ToldOfAnother":  {reason: "of this generation", rollout: &v1alpha1.RolloutStatus{Generation: 1, Type: "rollback", Workflow: "x", Phase: "Succeeded"}, want: [2]history.Status{history.Unknown, history.Current}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			group := groupAt(2, "^1.0.0")
			group.Status.Rollout = tc.rollout
			other := object(t, events.Rollout{Group: "shop", UID: "of an earlier group", Generation: 7}, true, "1.0.0", "1.0.0")
			got, err := history.Of(group, []appsv1.ControllerRevision{
				object(t, at(1), true, "^1.0.0", "1.0.0"), other, object(t, at(2), tc.good, "^1.0.0", "1.1.0"),
			}, tc.workflows)
			if err != nil || len(got) != 2 || got[0].Number != 2 || got[1].Number != 1 {
				t.Fatalf("the group's own, the newest first: %v, %+v", err, got)
			}
			if diff := cmp.Diff(tc.want, [2]history.Status{got[0].Status, got[1].Status}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestPinned(t *testing.T) {
	got, err := history.Of(groupAt(1, "^1.0.0"), []appsv1.ControllerRevision{object(t, at(1), true, "^1.0.0", "1.4.2")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := got[0].Pinned().Applications[0].Spec.Chart.Version; v != "1.4.2" {
		t.Errorf("a range becomes the version that it came to, and not %s", v)
	}
	if v := got[0].Spec.Applications[0].Spec.Chart.Version; v != "^1.0.0" {
		t.Errorf("the revision itself stays as it is, and not %s", v)
	}
	if got[0].Charts()["web"].Subcharts["db"] != "0.1.0" {
		t.Errorf("subcharts have their own versions: %+v", got[0].Charts())
	}
}

func TestPrevious(t *testing.T) {
	again := at(3)
	again.RequestedAt = "2026-01-02T03:04:05Z"
	unchanged := groupAt(2, "^1.0.0")
	unchanged.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: again.RequestedAt}
	unchanged.Status.LastUnchangedRollout = events.Rollout{Group: "shop", UID: uid, Generation: 2, RequestedAt: again.RequestedAt}.ID()
	cases := map[string]struct {
		reason  string
		group   *v1alpha1.ApplicationGroup
		objects []appsv1.ControllerRevision
		want    int64 // 0 for none
	}{
		"Good":   {reason: "the good one before the current one", group: groupAt(2, "2.0.0"), objects: []appsv1.ControllerRevision{object(t, at(1), true, "1.0.0", "1.0.0"), object(t, at(2), true, "2.0.0", "2.0.0")}, want: 1},
		"Failed": {reason: "from one that failed, to that which runs", group: groupAt(3, "3.0.0"), objects: []appsv1.ControllerRevision{object(t, at(1), true, "1.0.0", "1.0.0"), object(t, at(2), true, "2.0.0", "2.0.0"), object(t, at(3), false, "3.0.0", "3.0.0")}, want: 2},
		"Range":  {reason: "a range that came to something else is another state", group: groupAt(2, "^1.0.0"), objects: []appsv1.ControllerRevision{object(t, at(1), true, "^1.0.0", "1.0.0"), object(t, at(2), true, "^1.0.0", "1.1.0")}, want: 1},
		"Same": {reason: "another rollout of the same is not", group: groupAt(3, "2.0.0"), objects: []appsv1.ControllerRevision{
			object(t, at(1), true, "1.0.0", "1.0.0"), object(t, at(2), true, "^2.0.0", "2.0.0"), object(t, again, true, "2.0.0", "2.0.0"), object(t, at(3), true, "2.0.0", "2.0.0"),
		}, want: 1},
		"Unchanged": {reason: "a rollout that found nothing to do has no revision: it asks for that which runs", group: unchanged, objects: []appsv1.ControllerRevision{object(t, at(1), true, "^1.0.0", "1.0.0"), object(t, at(2), true, "^1.0.0", "1.1.0")}, want: 1},
		"Unstaged":  {reason: "a spec that has no revision yet is compared itself", group: groupAt(2, "9.9.9"), objects: []appsv1.ControllerRevision{object(t, at(1), true, "1.0.0", "1.0.0")}, want: 1},
		"None":      {reason: "the first has none before it", group: groupAt(1, "1.0.0"), objects: []appsv1.ControllerRevision{object(t, at(1), true, "1.0.0", "1.0.0")}},
		"NotGood":   {reason: "nor has one before which all failed", group: groupAt(2, "2.0.0"), objects: []appsv1.ControllerRevision{object(t, at(1), false, "1.0.0", "1.0.0"), object(t, at(2), true, "2.0.0", "2.0.0")}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			revisions, err := history.Of(tc.group, tc.objects, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, ok, err := history.Previous(tc.group, revisions)
			if err != nil || ok != (tc.want != 0) || got.Number != tc.want {
				t.Errorf("%s: got %d, %t, %v", tc.reason, got.Number, ok, err)
			}
		})
	}
}

func TestSelect(t *testing.T) {
	again := at(1)
	again.RequestedAt = "2026-01-02T03:04:05Z"
	revisions, err := history.Of(groupAt(2, "2.0.0"), []appsv1.ControllerRevision{
		object(t, at(1), true, "1.0.0", "1.0.0"), object(t, again, false, "1.0.0", "1.0.0"), object(t, at(2), true, "2.0.0", "2.0.0"),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := history.Select("shop", revisions, "1"); err != nil || r.Rollout != at(1) {
		t.Errorf("of two of one number, the good one: %+v, %v", r.Rollout, err)
	}
	name := compile.WorkflowName(again, events.WorkflowForward, 0)
	if r, err := history.Select("shop", revisions, name); err != nil || r.Rollout != again {
		t.Errorf("by its name, the very one: %+v, %v", r.Rollout, err)
	}
	if _, err := history.Select("shop", revisions, "9"); err == nil || !strings.Contains(err.Error(), "2 (current), 1 (") {
		t.Errorf("those that there are are named: %v", err)
	}
	if _, err := history.Select("shop", nil, "9"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("or that there are none: %v", err)
	}
}
