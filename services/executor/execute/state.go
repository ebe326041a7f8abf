package execute

import (
	"cmp"
	"slices"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// Key names a HelmRelease.
type Key = types.NamespacedName

// KeyOf is the key of a HelmRelease.
func KeyOf(hr *helmv2.HelmRelease) Key { return Key{Namespace: hr.Namespace, Name: hr.Name} }

// State is what was seen of one workflow at one time. Nothing in it is changed.
type State struct {
	// Now is when it was seen.
	Now time.Time
	// Workflow with its nodes decompressed.
	Workflow *wfv1.Workflow
	// Rollout of which the workflow is.
	Rollout events.Rollout
	// Group of that name as it is now; nil where there is none.
	Group *metav1.ObjectMeta
	// Plan of the workflow, by task.
	Plan map[string]plan.Node
	// Releases are the HelmReleases of the group, and those that have the name of
	// one in the plan. One that is not there may be missing or nil. Their values
	// may be left out where the plan has no readiness expression for them: nothing
	// else looks at them.
	Releases map[Key]*helmv2.HelmRelease
	// Jobs are those of the waiting nodes of kind Job, by task. One that is not
	// there may be missing or nil.
	Jobs map[string]*batchv1.Job
	// Objects are what the waiting nodes of kind Wait are about, by task.
	Objects map[string]Object
	// Prepared are the tasks of kind Prepare for which everything is there.
	Prepared map[string]bool
	// Refused are the tasks whose release the API server does not take, and in
	// whose words; trying again is no use.
	Refused map[string]string
	// Held are the tasks that are not begun this time, because something went wrong
	// that may pass.
	Held map[string]bool
	// Early: a release is begun as soon as Argo would activate its node if it knew what
	// is done. Otherwise when Argo has activated it.
	Early bool
}

// Object is what a node of kind Wait is about, as it was seen.
type Object struct {
	// Content as the API server has it; nil where it is not there.
	Content map[string]any
	// Problem with which it could not be seen, which may pass: its kind is not
	// known yet, or may not be read.
	Problem string
}

// Owner is on whose behalf the state's releases are written.
func (s State) Owner() Owner {
	return Owner{Rollout: s.Rollout, Workflow: s.Workflow.Name, WorkflowUID: string(s.Workflow.UID)}
}

// Owner is on whose behalf a release is written.
type Owner struct {
	Rollout     events.Rollout
	Workflow    string
	WorkflowUID string
}

// Node names a node of a workflow.
type Node struct {
	// ID that Argo gave to it; empty where Argo has not activated it.
	ID string
	// Task is its place in the plan.
	Task string
}

// waiting is a node that Argo has activated and that nobody has settled.
type waiting struct {
	Node
	since time.Time
}

// Waiting are the tasks of the workflow's nodes that are to be settled: they have
// been activated, and neither Argo nor a user is ending the workflow. Those that
// were activated first come first.
func Waiting(wf *wfv1.Workflow) []string {
	var tasks []string
	for _, n := range nodesOf(wf) {
		tasks = append(tasks, n.Task)
	}
	return tasks
}

// Activated reports whether the workflow has a node for each of the tasks.
func Activated(wf *wfv1.Workflow, tasks []string) bool {
	missing := make(map[string]bool, len(tasks))
	for _, task := range tasks {
		missing[wf.Name+"."+task] = true
	}
	for _, n := range wf.Status.Nodes {
		delete(missing, n.Name)
	}
	return len(missing) == 0
}

// stallAfter is how long Argo may take to go on when every node is settled, beside stallLooks of its looks
// at the workflow: its requeue time is 10 s at most. To be told so while it looks at a thousand nodes, on busy
// processors, would make it do that again.
const (
	stallAfter = 12 * time.Second
	stallLooks = 4
)

// Stalled says whether it is Argo's turn, and Argo has not taken it: every node that was
// activated is settled, and the workflow neither goes on nor ends. Argo puts what it
// writes into its own store (writeBackToInformer in its workflow/controller/operator.go),
// and may put it over a settlement that reached the store a moment before; then it looks
// again by itself after 20 minutes only.
func Stalled(wf *wfv1.Workflow, now time.Time) bool {
	if wf.Status.Fulfilled() || wf.DeletionTimestamp != nil || wf.Spec.Suspend != nil && *wf.Spec.Suspend {
		return false
	}
	settled := 0
	patience := stallAfter + stallLooks*lookOf(len(wf.Status.Nodes)/2) // a release has a node, and one of its application
	for _, n := range wf.Status.Nodes {
		leaf := n.Type == wfv1.NodeTypeSuspend || n.Type == wfv1.NodeTypePod
		if leaf && !n.Fulfilled() {
			return false
		}
		if leaf {
			settled++
		}
	}
	return settled > 0 && now.Sub(lastChange(wf)) > patience
}

// lastChange is when a node of the workflow was activated or settled last.
func lastChange(wf *wfv1.Workflow) time.Time {
	last := wf.CreationTimestamp.Time
	for _, n := range wf.Status.Nodes {
		for _, at := range []time.Time{n.StartedAt.Time, n.FinishedAt.Time} {
			if at.After(last) {
				last = at
			}
		}
	}
	return last
}

// nodesOf are the nodes to settle, those that were activated first at the front.
func nodesOf(wf *wfv1.Workflow) []waiting {
	if wf.Status.Fulfilled() || wf.Spec.Shutdown.Enabled() || wf.DeletionTimestamp != nil {
		return nil
	}
	var nodes []waiting
	for id, n := range wf.Status.Nodes {
		if n.IsActiveSuspendNode() {
			nodes = append(nodes, waiting{
				Node:  Node{ID: id, Task: strings.TrimPrefix(n.Name, wf.Name+".")},
				since: n.StartedAt.Time,
			})
		}
	}
	slices.SortFunc(nodes, func(a, b waiting) int {
		return cmp.Or(a.since.Compare(b.since), strings.Compare(a.Task, b.Task))
	})
	return nodes
}
