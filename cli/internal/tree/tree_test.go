package tree_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/cli/internal/tree"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds int) metav1.Time {
	return metav1.NewTime(start.Add(time.Duration(seconds) * time.Second))
}

func group(conditions ...metav1.Condition) *v1alpha1.ApplicationGroup {
	app := func(name string, subcharts ...string) v1alpha1.Application {
		a := v1alpha1.Application{DAG: v1alpha1.DAG{Name: name}, Spec: v1alpha1.ApplicationSpec{
			Chart:   v1alpha1.ChartRef{URL: "https://charts.example.com", Name: name},
			Release: v1alpha1.Release{TargetNamespace: "ns"},
		}}
		for _, s := range subcharts {
			a.Spec.Subcharts = append(a.Spec.Subcharts, v1alpha1.DAG{Name: s})
		}
		return a
	}
	return &v1alpha1.ApplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid", Generation: 2},
		Spec:       v1alpha1.ApplicationGroupSpec{Applications: []v1alpha1.Application{app("web", "db", "cache"), app("mesh")}},
		Status:     v1alpha1.ApplicationGroupStatus{Conditions: conditions},
	}
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: 2, LastTransitionTime: at(20)}
}

func release(name, app, workflow string, ready metav1.ConditionStatus, message string) helmv2.HelmRelease {
	hr := helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{
		Name: name, Generation: 1, Labels: map[string]string{v1alpha1.LabelApplication: app},
		Annotations: map[string]string{
			v1alpha1.AnnotationGroupUID: "uid", v1alpha1.AnnotationWorkflow: workflow,
			v1alpha1.AnnotationStartedAt: start.Format(time.RFC3339Nano), v1alpha1.AnnotationTask: "web-" + strings.TrimPrefix(name, "web-"),
		},
	}}
	hr.Status.ObservedGeneration = 1
	hr.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: ready, Message: message, LastTransitionTime: at(3)}}
	hr.Status.History = helmv2.Snapshots{{ChartName: name, ChartVersion: "1.0.0", Version: 1}}
	return hr
}

func workflow(phase wfv1.WorkflowPhase, nodes ...wfv1.NodeStatus) wfv1.Workflow {
	wf := wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: "wf", Annotations: map[string]string{v1alpha1.AnnotationGroupUID: "uid"}}}
	wf.Status.Phase, wf.Status.StartedAt = phase, at(0)
	if phase.Completed() {
		wf.Status.FinishedAt = at(90)
	}
	wf.Status.Nodes = wfv1.Nodes{}
	for _, n := range nodes {
		n.Type = wfv1.NodeTypeSuspend
		wf.Status.Nodes[n.Name] = n
	}
	return wf
}

func lines(s tree.State, style tree.Style) string {
	return strings.Join(tree.Lines(tree.Of(s), style), "\n")
}

// told is a group of whose releases only its own status speaks.
func told() *v1alpha1.ApplicationGroup {
	of := func(phase v1alpha1.ReleasePhase, message string) v1alpha1.ChartStatus {
		return v1alpha1.ChartStatus{
			Chart: "istio", Version: "2.0.0", Phase: phase, LastTransitionTime: new(at(10)),
			Conditions: []metav1.Condition{{Type: "Ready", Message: message}},
		}
	}
	g := group()
	g.Status.Applications = []v1alpha1.ApplicationStatus{
		{Name: "mesh", ChartStatus: of(v1alpha1.ReleaseReady, "installed")},
		{Name: "web", Subcharts: map[string]v1alpha1.ChartStatus{
			"cache": of(v1alpha1.ReleaseProgressing, "Running 'install' action"), "db": of(v1alpha1.ReleaseFailed, "no"),
		}},
	}
	return g
}

func TestRollout(t *testing.T) {
	r := v1alpha1.RolloutStatus{Generation: 2, Type: "rollback", Progress: "3/6", Started: new(at(0))}
	cases := map[string]struct {
		reason string
		now    time.Time
		with   func(*v1alpha1.RolloutStatus)
		want   string
	}{
		"Today":     {reason: "the time is enough", now: at(60).Time, want: "rollback 3/6, started 03:04:05"},
		"Yesterday": {reason: "the day too", now: at(86400).Time, want: "rollback 3/6, started 2026-01-02 03:04:05"},
		"Zone":      {reason: "in the time zone of who looks", now: at(60).In(time.FixedZone("", 3600)), want: "rollback 3/6, started 04:04:05"},
		"Pending":   {reason: "it has not been begun", with: func(r *v1alpha1.RolloutStatus) { r.Started, r.Progress = nil, "" }, want: "rollback"},
		"Older":     {reason: "of another generation", with: func(r *v1alpha1.RolloutStatus) { r.Generation = 1 }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := group(condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonProgressing, ""))
			g.Status.Rollout = r.DeepCopy()
			if tc.with != nil {
				tc.with(g.Status.Rollout)
			}
			if got := tree.Rollout(g, tc.now); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

func TestTree(t *testing.T) {
	progressing := condition(v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonProgressing, "workflow wf is running")
	deleting := group(condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTerminating, "2 to go"))
	deleting.DeletionTimestamp = new(at(0))
	gone := release("web", "web", "wf", metav1.ConditionTrue, "")
	gone.DeletionTimestamp = new(at(1))
	stuck := release("web-db", "web", "wf", metav1.ConditionFalse, "install retries exhausted")
	held := group(condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended, "workflow wf is held"))
	held.Spec.Suspend = true
	held.Status.Rollout = &v1alpha1.RolloutStatus{Generation: 2, Type: "forward", Progress: "1/4", Workflow: "wf", Started: new(at(0))}
	reversed := workflow(wfv1.WorkflowSucceeded)
	reversed.Labels = map[string]string{v1alpha1.LabelWorkflowType: "reverse"}
	cases := map[string]struct {
		reason string
		state  tree.State
		want   string
	}{
		"New": {
			reason: "a group that nobody has looked at is on its way",
			state:  tree.State{Group: group()},
			want: `
shop             ↻ Working    waiting for generation 2 to be taken up
├─ mesh          · Pending
│  └─ mesh       · Pending
└─ web           · Pending
   ├─ web        · Pending
   ├─ web-cache  · Pending
   └─ web-db     · Pending`,
		},
		"Underway": {
			reason: "each release has its phase and its time",
			state: tree.State{
				Group:     group(progressing),
				Workflows: []wfv1.Workflow{workflow(wfv1.WorkflowRunning)},
				Releases: []helmv2.HelmRelease{
					release("web-db", "web", "wf", metav1.ConditionUnknown, "Running 'install'\naction"),
					release("web-cache", "web", "older", metav1.ConditionTrue, ""),
					release("mesh", "mesh", "wf", metav1.ConditionTrue, ""),
				},
			},
			want: `
shop             ↻ Working     1m15s  workflow wf is running
├─ mesh          ✓ Ready
│  └─ mesh       ✓ Ready          3s  mesh 1.0.0
└─ web           ↻ Installing
   ├─ web        · Pending
   ├─ web-cache  · Waiting
   └─ web-db     ↻ Installing  1m15s  Running 'install' action`,
		},
		"Succeeded": {
			reason: "a release that left the spec is shown while it is there",
			state: tree.State{
				Group:     group(condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSucceeded, "generation 2 is rolled out")),
				Workflows: []wfv1.Workflow{workflow(wfv1.WorkflowSucceeded)},
				Releases: []helmv2.HelmRelease{
					release("web", "web", "wf", metav1.ConditionTrue, ""), release("web-db", "web", "wf", metav1.ConditionTrue, ""),
					release("web-cache", "web", "wf", metav1.ConditionTrue, ""), release("mesh", "mesh", "wf", metav1.ConditionTrue, ""),
					release("gateway", "gateway", "older", metav1.ConditionTrue, ""),
				},
			},
			want: `
shop             ✓ Ready  1m30s  generation 2 is rolled out
├─ gateway       ✓ Ready
│  └─ gateway    ✓ Ready     3s  gateway 1.0.0
├─ mesh          ✓ Ready
│  └─ mesh       ✓ Ready     3s  mesh 1.0.0
└─ web           ✓ Ready
   ├─ web        ✓ Ready     3s  web 1.0.0
   ├─ web-cache  ✓ Ready     3s  web-cache 1.0.0
   └─ web-db     ✓ Ready     3s  web-db 1.0.0`,
		},
		"Failed": {
			reason: "what failed says why, in the words of Helm or of the executor",
			state: tree.State{
				Group: group(condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed, "web.web-db: no"),
					condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonWorkflowFailed, "web.web-db: no")),
				Workflows: []wfv1.Workflow{workflow(wfv1.WorkflowFailed, wfv1.NodeStatus{Name: "wf.mesh.mesh-mesh", Phase: wfv1.NodeFailed, Message: "belongs to group other"})},
				Releases:  []helmv2.HelmRelease{stuck},
			},
			want: `
shop             ✗ Failed   1m30s  WorkflowFailed: web.web-db: no
├─ mesh          ✗ Failed
│  └─ mesh       ✗ Failed          belongs to group other
└─ web           ✗ Failed
   ├─ web        · Pending
   ├─ web-cache  · Pending
   └─ web-db     ✗ Failed      3s  install retries exhausted`,
		},
		"Suspended": {
			reason: "a group that is held says so, and how far its rollout is",
			state:  tree.State{Group: held, Releases: []helmv2.HelmRelease{release("mesh", "mesh", "wf", metav1.ConditionTrue, "")}},
			want: `
shop             ‖ Suspended      forward 1/4, started 03:04:05; workflow wf is held
├─ mesh          ✓ Ready
│  └─ mesh       ✓ Ready      3s  mesh 1.0.0
└─ web           · Pending
   ├─ web        · Pending
   ├─ web-cache  · Pending
   └─ web-db     · Pending`,
		},
		"Hidden": {
			reason: "of releases that may not be seen the group's status tells",
			state:  tree.State{Group: told(), Hidden: true},
			want: `
shop             ↻ Working         waiting for generation 2 to be taken up
├─ mesh          ✓ Ready
│  └─ mesh       ✓ Ready           istio 2.0.0
└─ web           ✗ Failed
   ├─ web        · Pending
   ├─ web-cache  ↻ Working  1m05s  Running 'install' action
   └─ web-db     ✗ Failed   1m05s  no`,
		},
		"Reversed": {
			reason: "what a failed first rollout had made is gone, and nobody is going to make it",
			state: tree.State{
				Group: group(condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed, "web.web-db: no"),
					condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonWorkflowFailed, "")),
				Workflows: []wfv1.Workflow{reversed},
			},
			want: `
shop             ✗ Failed  1m30s  WorkflowFailed: web.web-db: no
├─ mesh          ✓ Gone
│  └─ mesh       ✓ Gone
└─ web           ✓ Gone
   ├─ web        ✓ Gone
   ├─ web-cache  ✓ Gone
   └─ web-db     ✓ Gone`,
		},
		"Deleting": {
			reason: "what is gone is done",
			state: tree.State{
				Group:     deleting,
				Workflows: []wfv1.Workflow{workflow(wfv1.WorkflowRunning)},
				Releases:  []helmv2.HelmRelease{gone, release("web-db", "web", "forward", metav1.ConditionTrue, "")},
			},
			want: `
shop             ↓ Deleting  1m15s  2 to go
├─ mesh          ✓ Gone
│  └─ mesh       ✓ Gone
└─ web           ↓ Deleting
   ├─ web        ↓ Deleting  1m14s
   ├─ web-cache  ✓ Gone
   └─ web-db     · Waiting`,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.state.Now = at(75).Time
			if diff := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), lines(tc.state, tree.Style{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestDone(t *testing.T) {
	ready := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSucceeded, "")
	failed := condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWorkflowFailed, "")
	stalled := condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonWorkflowFailed, "")
	older := ready
	older.ObservedGeneration = 1
	held := group(condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSuspended, ""))
	held.Spec.Suspend = true
	requested := group(ready)
	requested.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	cases := map[string]struct {
		reason   string
		group    *v1alpha1.ApplicationGroup
		over, ok bool
	}{
		"New":         {reason: "nothing is known", group: group()},
		"Ready":       {reason: "ready is the end", group: group(ready), over: true, ok: true},
		"Older":       {reason: "ready of another generation is not", group: group(older)},
		"Requested":   {reason: "nor is ready of another request", group: requested},
		"RollingBack": {reason: "a failure of which something is still made is not the end", group: group(failed)},
		"Suspended":   {reason: "a group that is held goes no further", group: held, over: true},
		"Stalled":     {reason: "a failure after which nothing happens is", group: group(failed, stalled), over: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if over, ok := tree.Done(tc.group); over != tc.over || ok != tc.ok {
				t.Errorf("%s: got over %t, ok %t", tc.reason, over, ok)
			}
		})
	}
}

// Whatever the size of the terminal, nothing sticks out of it.
func TestLinesFit(t *testing.T) {
	g := group()
	for i := range 30 {
		g.Spec.Applications = append(g.Spec.Applications, v1alpha1.Application{
			DAG:  v1alpha1.DAG{Name: fmt.Sprintf("application-with-a-long-name-%02d", i)},
			Spec: v1alpha1.ApplicationSpec{Chart: v1alpha1.ChartRef{URL: "https://charts.example.com", Name: "c"}, Release: v1alpha1.Release{TargetNamespace: "ns"}},
		})
	}
	state := tree.State{Group: g, Now: start, Releases: []helmv2.HelmRelease{release("web-db", "web", "wf", metav1.ConditionFalse, strings.Repeat("très long ", 50)+"\x1b[31m")}}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 50}, {30, 3}, {1000, 1000}} {
		got := tree.Lines(tree.Of(state), tree.Style{Width: size[0], Height: size[1]})
		if len(got) > size[1] {
			t.Errorf("%v: %d lines", size, len(got))
		}
		for _, l := range got {
			if n := utf8.RuneCountInString(l); n >= size[0] || strings.ContainsRune(l, '\x1b') {
				t.Errorf("%v: a line of %d columns: %q", size, n, l)
			}
		}
	}
	if got := lines(state, tree.Style{Width: 80, Height: 40}); !strings.Contains(got, "web-db") {
		t.Errorf("what is in trouble is not folded:\n%s", got)
	}
	if got := lines(state, tree.Style{Color: true}); !strings.Contains(got, "\x1b[31m✗ Failed\x1b[0m") {
		t.Error("phases are in color where that is asked for")
	}
}
