package watcher

import (
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/service/groupstatus"
	"orkestra.dev/services/watcher/observe"
)

// slimmed is what an informer does that lists what there is when it starts: it transforms it twice.
func slimmed(t *testing.T, o any) {
	t.Helper()
	for range 2 {
		if _, err := slim(o); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlimTellsTheSame(t *testing.T) {
	started := metav1.NewTime(time.Now().Add(-time.Minute).Truncate(time.Second))
	node := func(id string, kind wfv1.NodeType, phase wfv1.NodePhase, message string) wfv1.NodeStatus {
		return wfv1.NodeStatus{
			ID: id, Name: "shop-1." + id, Type: kind, Phase: phase, Message: message, StartedAt: started, FinishedAt: started, BoundaryID: "shop-1",
			TemplateName: "leaf", Children: []string{"c"}, Inputs: &wfv1.Inputs{Parameters: []wfv1.Parameter{{Name: "release"}}},
		}
	}
	of := func(n wfv1.NodeStatus, children ...string) wfv1.NodeStatus { n.Children = children; return n }
	for name, nodes := range map[string][]wfv1.NodeStatus{
		"Submitted": nil,
		"Begun":     {node("shop-1", wfv1.NodeTypeDAG, wfv1.NodeRunning, "")},
		"Running": {
			node("shop-1", wfv1.NodeTypeDAG, wfv1.NodeRunning, ""), node("a", wfv1.NodeTypeDAG, wfv1.NodeSucceeded, ""),
			node("a-a", wfv1.NodeTypeSuspend, wfv1.NodeSucceeded, ""), node("b-b", wfv1.NodeTypePod, wfv1.NodeRunning, ""),
			node("c-c", wfv1.NodeTypeSuspend, wfv1.NodeFailed, "no such image"),
		},
		// Their names say another order than the graph, and they began within one second.
		"InOrder": {
			of(node("shop-1", wfv1.NodeTypeDAG, wfv1.NodeRunning, ""), "z"),
			of(node("z", wfv1.NodeTypeDAG, wfv1.NodeSucceeded, ""), "z-z"), of(node("z-z", wfv1.NodeTypeSuspend, wfv1.NodeSucceeded, ""), "y", "x"),
			of(node("y", wfv1.NodeTypeDAG, wfv1.NodeSucceeded, ""), "y-y"), of(node("y-y", wfv1.NodeTypeSuspend, wfv1.NodeSucceeded, ""), "w"),
			of(node("x", wfv1.NodeTypeDAG, wfv1.NodeSucceeded, ""), "x-x"), of(node("x-x", wfv1.NodeTypeSuspend, wfv1.NodeSucceeded, ""), "w"),
			of(node("w", wfv1.NodeTypeDAG, wfv1.NodeSucceeded, ""), "w-w"), of(node("w-w", wfv1.NodeTypeSuspend, wfv1.NodeRunning, ""), "a"),
			of(node("a", wfv1.NodeTypeDAG, wfv1.NodeRunning, ""), "a"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			wf := &wfv1.Workflow{ObjectMeta: metav1.ObjectMeta{Name: "shop-1", UID: "uid-wf", Annotations: map[string]string{v1alpha1.AnnotationRollout: rolloutJSON}}}
			wf.Status = wfv1.WorkflowStatus{Phase: wfv1.WorkflowRunning, StartedAt: started, Nodes: wfv1.Nodes{}}
			for _, n := range nodes {
				wf.Status.Nodes[n.ID] = n
			}
			tells := func(wf *wfv1.Workflow) (said []string, status groupstatus.Status) {
				facts, err := observe.Workflow(wf, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range facts {
					said = append(said, f.EventID())
				}
				group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: 1}}
				status, _ = observe.Summarize(observe.World{Group: group, Workflows: []*wfv1.Workflow{wf}, Now: started.Time})
				return said, status
			}
			said, status := tells(wf.DeepCopy())
			if name == "InOrder" {
				var started []string
				for _, id := range said {
					if strings.HasPrefix(id, "node.started/") {
						started = append(started, id[strings.LastIndexByte(id, '/')+1:])
					}
				}
				if diff := cmp.Diff([]string{"z-z", "x-x", "y-y", "w-w"}, started); diff != "" {
					t.Errorf("nodes in their order (-want +got):\n%s", diff)
				}
			}
			slimmed(t, wf)
			slimSaid, slimStatus := tells(wf)
			if diff := cmp.Diff(said, slimSaid); diff != "" {
				t.Errorf("facts (-whole +slim):\n%s", diff)
			}
			if diff := cmp.Diff(status, slimStatus); diff != "" {
				t.Errorf("status (-whole +slim):\n%s", diff)
			}
			if _, kept := wf.Status.Nodes["a"]; kept {
				t.Error("a node that is no release is kept")
			}
		})
	}
}

// The number of steps outlives the templates, which are too large for the cache.
func TestSlim(t *testing.T) {
	wf := &wfv1.Workflow{Spec: wfv1.WorkflowSpec{Entrypoint: "entry", Templates: []wfv1.Template{
		{Name: "entry", DAG: &wfv1.DAGTemplate{Tasks: []wfv1.DAGTask{{Name: "a", Template: "leaf"}, {Name: "b", Template: "leaf"}}}},
		{Name: "leaf", Suspend: &wfv1.SuspendTemplate{}},
	}}}
	wf.Annotations = map[string]string{v1alpha1.AnnotationRollout: rolloutJSON}
	slimmed(t, wf)
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: 1}}
	status, _ := observe.Summarize(observe.World{Group: group, Workflows: []*wfv1.Workflow{wf}, Now: time.Now()})
	if wf.Spec.Templates != nil || status.Rollout == nil || status.Rollout.Progress != "0/2" {
		t.Errorf("templates %v, rollout %+v: want none, and 0/2", wf.Spec.Templates, status.Rollout)
	}
}

// A group that is slim is told the same of itself, and a release that is slim tells the same.
func TestSlimGroup(t *testing.T) {
	condition := func(kind, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "InstallSucceeded", Message: message, ObservedGeneration: 1}
	}
	release := func(name, subchart string) *helmv2.HelmRelease {
		hr := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{
			Name: name, Generation: 1, Labels: map[string]string{v1alpha1.LabelApplication: "web", v1alpha1.LabelOwner: "shop"},
			Annotations: map[string]string{
				v1alpha1.AnnotationRollout: rolloutJSON, v1alpha1.AnnotationGroupUID: "uid-shop", v1alpha1.AnnotationNode: "web." + name,
				v1alpha1.AnnotationStartedAt: time.Now().Format(time.RFC3339Nano), v1alpha1.AnnotationWorkflow: "shop-1",
				v1alpha1.AnnotationDependencies: "a,b",
			},
		}}
		if subchart != "" {
			hr.Annotations[v1alpha1.AnnotationSubchart] = subchart
		}
		hr.Status.ObservedGeneration = 1
		hr.Status.Conditions = []metav1.Condition{condition("Ready", "installed "+name)}
		return hr
	}
	group := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{
		Name: "shop", UID: "uid-shop", Generation: 1, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "me"}},
		Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}", v1alpha1.AnnotationRequestedAt: "now"},
	}}
	web := v1alpha1.Application{DAG: v1alpha1.DAG{Name: "web", Dependencies: []string{"db"}}}
	web.Spec.Chart.Name = "web"
	web.Spec.Release = v1alpha1.Release{TargetNamespace: "web", ReadyExpr: "true", Values: &apiextensionsv1.JSON{Raw: []byte(`{"a":1}`)}}
	web.Spec.Subcharts = []v1alpha1.DAG{{Name: "cache"}}
	group.Spec = v1alpha1.ApplicationGroupSpec{
		Applications: []v1alpha1.Application{web, {DAG: v1alpha1.DAG{Name: "db"}}},
		Remediation:  &v1alpha1.Remediation{Strategy: v1alpha1.RemediationNone},
	}
	staged := v1alpha1.ChartStatus{Chart: "web", Version: "1.0.0", Staged: true, Phase: v1alpha1.ReleaseReady, Conditions: []metav1.Condition{condition("Ready", "installed")}}
	group.Status.Applications = []v1alpha1.ApplicationStatus{{Name: "web", ChartStatus: staged, Subcharts: map[string]v1alpha1.ChartStatus{"cache": staged}}}
	group.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionStaged, "staged")}

	whole := observe.World{Group: group, Releases: []*helmv2.HelmRelease{release("web", ""), release("cache", "cache")}, Now: time.Now()}
	small := observe.World{Group: group.DeepCopy(), Now: whole.Now}
	for _, hr := range whole.Releases {
		small.Releases = append(small.Releases, hr.DeepCopy())
	}
	for _, o := range []any{small.Group, small.Releases[0], small.Releases[1]} {
		slimmed(t, o)
	}
	want, _ := observe.Summarize(whole)
	got, _ := observe.Summarize(small)
	if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Second)); diff != "" {
		t.Errorf("status (-whole +slim):\n%s", diff)
	}
	if diff := cmp.Diff(group.Status, small.Group.Status); diff != "" {
		t.Errorf("what the status was (-whole +slim):\n%s", diff)
	}
	if want, got := observe.Compare(group, want), observe.Compare(small.Group, got); want != got {
		t.Errorf("of a slim group %v is new, of the whole %v", got, want)
	}
	if groupstatus.RolloutOf(small.Group) != groupstatus.RolloutOf(group) || groupstatus.Releases(small.Group) != groupstatus.Releases(group) {
		t.Error("a slim group asks for another rollout, or has another number of releases")
	}
	if len(small.Group.Annotations) != 1 || small.Group.ManagedFields != nil || small.Group.Spec.Applications[0].Spec.Release.Values != nil {
		t.Errorf("what nobody looks at is kept: %+v", small.Group)
	}
	if _, kept := small.Releases[0].Annotations[v1alpha1.AnnotationDependencies]; kept {
		t.Error("an annotation that nobody looks at is kept")
	}
}

// What is kept of a release is as it was; what is kept once is not lost.
func TestSlimKeepsWhatReleasesSay(t *testing.T) {
	hr := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b", "c": ""}, Annotations: map[string]string{v1alpha1.AnnotationNode: "e"}}}
	hr.Status.Conditions = []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionTrue, Reason: "InstallSucceeded", Message: "installed", ObservedGeneration: 3},
		{Type: "Released", Status: metav1.ConditionTrue, Reason: "InstallSucceeded", Message: "installed", ObservedGeneration: 3},
	}
	for _, want := range []*helmv2.HelmRelease{hr.DeepCopy(), {}} {
		got := want.DeepCopy()
		if _, err := slim(got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-whole +slim):\n%s", diff)
		}
	}
}
