package observe_test

import (
	"encoding/json"
	"strconv"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/service/groupstatus"
)

const generation = 3

var (
	now     = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	rollout = events.Rollout{Group: "shop", UID: "uid-shop", Generation: generation}
)

func at(d time.Duration) metav1.Time { return metav1.Time{Time: now.Add(d)} }

func rolloutAnnotation(r events.Rollout) string {
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// workflow of the rollout; it ended a minute ago if it ended at all.
func workflow(kind events.WorkflowType, phase wfv1.WorkflowPhase, edit ...func(*wfv1.Workflow)) *wfv1.Workflow {
	wf := &wfv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{
			Name: "shop-" + strconv.Itoa(generation) + "-" + string(kind), UID: "uid-wf", CreationTimestamp: at(-time.Hour),
			Labels:      map[string]string{v1alpha1.LabelWorkflowType: string(kind)},
			Annotations: map[string]string{v1alpha1.AnnotationRollout: rolloutAnnotation(rollout)},
		},
		Status: wfv1.WorkflowStatus{Phase: phase, Nodes: wfv1.Nodes{}},
	}
	if wf.Status.Fulfilled() {
		wf.Status.FinishedAt = at(-time.Minute)
	}
	for _, e := range edit {
		e(wf)
	}
	return wf
}

// child makes the node of one task come after that of another.
func child(before, after string) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) {
		n := wf.Status.Nodes["id-"+before]
		n.Children = append(n.Children, "id-"+after)
		wf.Status.Nodes["id-"+before] = n
	}
}

func node(task string, phase wfv1.NodePhase, started time.Duration, message string) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) {
		n := wfv1.NodeStatus{ID: "id-" + task, Name: wf.Name + "." + task, Type: wfv1.NodeTypeSuspend, Phase: phase, StartedAt: at(started), Message: message}
		if phase.Fulfilled(nil) {
			n.FinishedAt = at(started + time.Second)
		}
		wf.Status.Nodes[n.ID] = n
	}
}

// dag is an inner node, which tells nothing.
func dag(name string) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) {
		wf.Status.Nodes["id-"+name] = wfv1.NodeStatus{ID: "id-" + name, Name: wf.Name + "." + name, Type: wfv1.NodeTypeDAG, Phase: wfv1.NodeRunning}
	}
}

func of(r events.Rollout) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) {
		wf.Name = "shop-" + strconv.FormatInt(r.Generation, 10) + "-" + wf.Labels[v1alpha1.LabelWorkflowType]
		wf.Annotations[v1alpha1.AnnotationRollout] = rolloutAnnotation(r)
	}
}

func made(d time.Duration) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) { wf.CreationTimestamp = at(d) }
}

// release as the forward workflow wrote it ten seconds ago.
func release(edit ...func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
	hr := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{
		Name: "web-redis", Namespace: "target", UID: types.UID("uid-hr"), Generation: 2,
		Labels: map[string]string{v1alpha1.LabelApplication: "web", v1alpha1.LabelChart: "web-redis"},
		Annotations: map[string]string{
			v1alpha1.AnnotationGroupUID:    "uid-shop",
			v1alpha1.AnnotationRollout:     rolloutAnnotation(rollout),
			v1alpha1.AnnotationWorkflow:    "shop-3-forward",
			v1alpha1.AnnotationWorkflowUID: "uid-wf",
			v1alpha1.AnnotationNode:        "web.web-redis",
			v1alpha1.AnnotationStartedAt:   now.Add(-10 * time.Second).Format(time.RFC3339Nano),
			v1alpha1.AnnotationSubchart:    "redis",
		},
	}}
	hr.Spec.Timeout = &metav1.Duration{Duration: time.Minute}
	hr.Status.ObservedGeneration = 2
	for _, e := range edit {
		e(hr)
	}
	return hr
}

func helmReady(status metav1.ConditionStatus, reason, message string) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) {
		hr.Status.Conditions = []metav1.Condition{{
			Type: meta.ReadyCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: hr.Generation,
		}}
	}
}

func startedAgo(d time.Duration) func(*helmv2.HelmRelease) {
	return func(hr *helmv2.HelmRelease) {
		hr.Annotations[v1alpha1.AnnotationStartedAt] = now.Add(-d).Format(time.RFC3339Nano)
	}
}

func group(edit ...func(*v1alpha1.ApplicationGroup)) *v1alpha1.ApplicationGroup {
	g := &v1alpha1.ApplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "uid-shop", Generation: generation}}
	for _, e := range edit {
		e(g)
	}
	return g
}

func condition(kind string, status metav1.ConditionStatus, reason, message string, generation int64) func(*v1alpha1.ApplicationGroup) {
	return func(g *v1alpha1.ApplicationGroup) {
		g.Status.Conditions = append(g.Status.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
			LastTransitionTime: at(-time.Hour),
		})
	}
}

// The states of a group.

func deleting(g *v1alpha1.ApplicationGroup) { g.DeletionTimestamp = new(at(0)) }

func held(g *v1alpha1.ApplicationGroup) { g.Spec.Suspend = true }

func lastSucceeded(generation int64) func(*v1alpha1.ApplicationGroup) {
	return func(g *v1alpha1.ApplicationGroup) { g.Status.LastSucceededGeneration = generation }
}

func unchanged(rollout string) func(*v1alpha1.ApplicationGroup) {
	return func(g *v1alpha1.ApplicationGroup) { g.Status.LastUnchangedRollout = rollout }
}

func retries(n int32) func(*v1alpha1.ApplicationGroup) {
	return func(g *v1alpha1.ApplicationGroup) { g.Spec.Remediation = &v1alpha1.Remediation{Retries: n} }
}

// hold is a workflow that spec.suspend holds.
func hold(wf *wfv1.Workflow) { wf.Spec.Suspend = new(true) }

// again is the nth workflow after the first of a rollout.
func again(n int) func(*wfv1.Workflow) {
	return func(wf *wfv1.Workflow) {
		wf.Name += "-r" + strconv.Itoa(n)
		wf.CreationTimestamp = at(-time.Hour + time.Duration(n)*time.Minute)
	}
}

func gone(hr *helmv2.HelmRelease) { hr.DeletionTimestamp = new(at(-time.Minute)) }

// written is the group with the status that the watcher has written.
func written(g *v1alpha1.ApplicationGroup, status groupstatus.Status) {
	for _, c := range g.Status.Conditions {
		if c.Type == "Accepted" || c.Type == "Staged" || c.Type == "Compiled" {
			status.Conditions = append(status.Conditions, c)
		}
	}
	g.Status.Conditions = status.Conditions
	for i := range g.Status.Conditions {
		g.Status.Conditions[i].LastTransitionTime = at(-time.Minute)
	}
	g.Status.ObservedGeneration = status.ObservedGeneration
	g.Status.LastSucceededGeneration = status.LastSucceededGeneration
	g.Status.LastHandledReconcileAt = status.LastHandledReconcileAt
	g.Status.Rollout = status.Rollout
	g.Status.Applications = status.Releases
}
