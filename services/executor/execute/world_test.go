package execute_test

import (
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

const (
	group    = "shop"
	groupUID = "uid-shop"
	workflow = "shop-1-forward"
	wfUID    = "uid-wf"
)

var (
	now       = time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC)
	activated = metav1.Time{Time: now.Add(-time.Hour).Truncate(time.Second)}
	rollout   = events.Rollout{Group: group, UID: groupUID, Generation: 2}
	owner     = execute.Owner{Rollout: rollout, Workflow: workflow, WorkflowUID: wfUID}
)

// world builds a state: a group, its workflow, a plan and what is there.
type world struct{ execute.State }

func newWorld(edit ...func(*world)) execute.State {
	w := &world{execute.State{
		Now: now,
		Workflow: &wfv1.Workflow{
			ObjectMeta: metav1.ObjectMeta{Name: workflow, UID: wfUID, Labels: map[string]string{v1alpha1.LabelWorkflowType: "forward"}},
			Status:     wfv1.WorkflowStatus{Phase: wfv1.WorkflowRunning, Nodes: wfv1.Nodes{}},
		},
		Rollout:  rollout,
		Group:    &metav1.ObjectMeta{Name: group, UID: groupUID, Generation: 2},
		Plan:     map[string]plan.Node{},
		Releases: map[execute.Key]*helmv2.HelmRelease{},
	}}
	for _, e := range edit {
		e(w)
	}
	return w.State
}

// node adds a node of that phase and its entry in the plan.
func node(task string, action plan.Action, phase wfv1.NodePhase, since metav1.Time) func(*world) {
	return func(w *world) {
		id := "id-" + task
		w.Workflow.Status.Nodes[id] = wfv1.NodeStatus{
			ID: id, Name: workflow + "." + task, Type: wfv1.NodeTypeSuspend, Phase: phase, StartedAt: since,
		}
		w.Plan[task] = plan.Node{Task: task, Action: action, Release: wanted(task)}
	}
}

func waits(task string) func(*world) { return node(task, plan.Install, wfv1.NodeRunning, activated) }
func goes(task string) func(*world)  { return node(task, plan.Delete, wfv1.NodeRunning, activated) }
func limit(n int64) func(*world)     { return func(w *world) { w.Workflow.Spec.Parallelism = &n } }

// there adds a HelmRelease for a task.
func there(task string, edit ...func(*helmv2.HelmRelease)) func(*world) {
	return func(w *world) {
		hr := existing(task, edit...)
		w.Releases[execute.KeyOf(hr)] = hr
	}
}

// wanted is what the compiler plans for a task.
func wanted(task string) *helmv2.HelmRelease {
	return &helmv2.HelmRelease{
		TypeMeta: metav1.TypeMeta{APIVersion: helmv2.GroupVersion.String(), Kind: helmv2.HelmReleaseKind},
		ObjectMeta: metav1.ObjectMeta{
			Name: task, Namespace: "target",
			Labels:      map[string]string{v1alpha1.LabelHeritage: v1alpha1.Heritage, v1alpha1.LabelOwner: group, v1alpha1.LabelChart: task},
			Annotations: map[string]string{v1alpha1.AnnotationGroupUID: groupUID, v1alpha1.AnnotationWorkflow: workflow, v1alpha1.AnnotationTask: task},
		},
		Spec: helmv2.HelmReleaseSpec{ReleaseName: "app", TargetNamespace: "target"},
	}
}

// existing is the release as an earlier workflow left it, ready.
func existing(task string, edit ...func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
	hr := wanted(task)
	hr.UID, hr.ResourceVersion, hr.Generation = types.UID("uid-"+task), "7", 1
	hr.Finalizers = []string{helmv2.HelmReleaseFinalizer}
	hr.Annotations[v1alpha1.AnnotationWorkflow] = "shop-0-forward"
	hr.Annotations[v1alpha1.AnnotationWorkflowUID] = "uid-before"
	hr.Status.ObservedGeneration = 1
	ready(metav1.ConditionTrue, "InstallSucceeded", "installed")(hr)
	for _, e := range edit {
		e(hr)
	}
	return hr
}

// ours marks a release as begun by the workflow, some time ago.
func ours(ago time.Duration) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) {
		hr.Annotations[v1alpha1.AnnotationWorkflow] = workflow
		hr.Annotations[v1alpha1.AnnotationWorkflowUID] = wfUID
		hr.Annotations[v1alpha1.AnnotationStartedAt] = now.Add(-ago).Format(time.RFC3339Nano)
	}
}

func ready(status metav1.ConditionStatus, reason, message string) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) {
		hr.Status.Conditions = []metav1.Condition{{
			Type: meta.ReadyCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: hr.Generation,
		}}
	}
}

func progressing(hr *helmv2.HelmRelease) {
	ready(metav1.ConditionUnknown, "Progressing", "Running 'install' action")(hr)
}

func failed(hr *helmv2.HelmRelease) {
	ready(metav1.ConditionFalse, "InstallFailed", "Helm install failed: boom")(hr)
}

func deleting(ago time.Duration) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) {
		hr.DeletionTimestamp = &metav1.Time{Time: now.Add(-ago)}
	}
}

func next(t *testing.T, s execute.State) execute.Actions {
	t.Helper()
	a, err := execute.Next(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// summary of actions: what is written, deleted and settled, by task.
type summary struct {
	Apply, Delete, Run, Prepare, Succeed, Poll []string
	Fail                                       map[string]string
	Superseded                                 string
}

func summarize(a execute.Actions) summary {
	s := summary{Superseded: a.Superseded, Poll: a.Poll}
	for _, x := range a.Apply {
		s.Apply = append(s.Apply, x.Node.Task)
	}
	for _, x := range a.Delete {
		s.Delete = append(s.Delete, x.Node.Task)
	}
	for _, x := range a.Run {
		s.Run = append(s.Run, x.Node.Task)
	}
	for _, x := range a.Prepare {
		s.Prepare = append(s.Prepare, x.Node.Task)
	}
	for _, x := range a.Settle {
		if x.Phase == wfv1.NodeSucceeded {
			s.Succeed = append(s.Succeed, x.Node.Task)
			continue
		}
		if s.Fail == nil {
			s.Fail = map[string]string{}
		}
		s.Fail[x.Node.Task] = x.Message
	}
	return s
}
