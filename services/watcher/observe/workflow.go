package observe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// sayAgain is how long after its end a workflow is spoken of to who may have
// missed it. It is less than the stream remembers ids, so that a watcher that is
// started again stores nothing twice.
const sayAgain = 12 * time.Hour

// Reasons of rollout.failed.
const (
	reasonFailed     = "Failed"
	reasonError      = "Error"
	reasonTerminated = "Terminated"
)

// RolloutOf is the rollout that a Workflow or a HelmRelease was written for.
func RolloutOf(o metav1.Object) (events.Rollout, error) {
	var r events.Rollout
	if err := json.Unmarshal([]byte(o.GetAnnotations()[v1alpha1.AnnotationRollout]), &r); err != nil {
		return r, fmt.Errorf("reading the rollout of %s: %w", o.GetName(), err)
	}
	if r.Group == "" || r.UID == "" {
		return r, fmt.Errorf("reading the rollout of %s: it names no group", o.GetName())
	}
	return r, nil
}

// Workflow is what a workflow tells, each fact once: of each release node that it
// was activated and how it ended, what ended before what began, and at last how
// the workflow itself ended. Its nodes must be decompressed.
func Workflow(wf *wfv1.Workflow, now time.Time) ([]events.Fact, error) {
	rollout, err := RolloutOf(wf)
	if err != nil {
		return nil, err
	}
	if wf.Status.Fulfilled() && now.Sub(wf.Status.FinishedAt.Time) > sayAgain {
		return nil, nil
	}
	var facts []events.Fact
	say := func(p events.Payload) { facts = append(facts, events.New(rollout, p)) }
	ref := refOf(wf)
	nodes := releaseNodes(wf)
	for _, n := range nodes {
		node := events.NodeRef{WorkflowRef: ref, Node: n.ID, Task: taskOf(wf, n)}
		switch {
		case n.Phase == wfv1.NodeSucceeded:
			say(events.NodeStarted{NodeRef: node})
			say(events.NodeSucceeded{NodeRef: node})
		case n.Phase.FailedOrError():
			say(events.NodeStarted{NodeRef: node})
			say(events.NodeFailed{NodeRef: node, Message: n.Message})
		}
	}
	for _, n := range nodes {
		if n.Phase == wfv1.NodeRunning {
			say(events.NodeStarted{NodeRef: events.NodeRef{WorkflowRef: ref, Node: n.ID, Task: taskOf(wf, n)}})
		}
	}
	if !wf.Status.Fulfilled() {
		return facts, nil
	}
	if wf.Status.Successful() {
		say(events.RolloutSucceeded{WorkflowRef: ref})
		return facts, nil
	}
	f := failureOf(wf)
	say(events.RolloutFailed{WorkflowRef: ref, Reason: f.reason, Message: f.message, Task: f.task})
	return facts, nil
}

func refOf(wf *wfv1.Workflow) events.WorkflowRef {
	return events.WorkflowRef{Workflow: wf.Name, WorkflowUID: string(wf.UID), WorkflowType: typeOf(wf)}
}

func typeOf(wf *wfv1.Workflow) events.WorkflowType {
	return events.WorkflowType(wf.Labels[v1alpha1.LabelWorkflowType])
}

// failure of a workflow.
type failure struct{ reason, message, task string }

// failureOf says why a workflow ended without success: in the words of the first
// release that failed, unless somebody stopped it, for then nodes only follow.
func failureOf(wf *wfv1.Workflow) failure {
	f := failure{reason: reasonFailed, message: wf.Status.Message}
	if wf.Status.Phase == wfv1.WorkflowError {
		f.reason = reasonError
	}
	if wf.Spec.Shutdown.Enabled() {
		f.reason = reasonTerminated
		return f
	}
	if n := firstFailed(wf); n != nil {
		f.task, f.message = taskOf(wf, *n), n.Message
	}
	return f
}

// firstFailed is the release node that failed first; nil where none did.
func firstFailed(wf *wfv1.Workflow) *wfv1.NodeStatus {
	var first *wfv1.NodeStatus
	for _, n := range releaseNodes(wf) {
		if n.Phase.FailedOrError() && (first == nil || n.FinishedAt.Time.Before(first.FinishedAt.Time)) {
			first = &n
		}
	}
	return first
}

// isRelease tells the leaves of the graph: suspend nodes, and pods where a release has an
// executor of its own.
func isRelease(n wfv1.NodeStatus) bool {
	return n.Type == wfv1.NodeTypeSuspend || n.Type == wfv1.NodeTypePod
}

// releaseNodes are the leaves, each after all that come before it. When a node began does not
// tell: that of a release which was begun ahead of Argo may have been activated after the next one was begun.
func releaseNodes(wf *wfv1.Workflow) []wfv1.NodeStatus {
	var nodes []wfv1.NodeStatus
	for _, n := range wf.Status.Nodes {
		if isRelease(n) {
			nodes = append(nodes, n)
		}
	}
	depth := depths(wf.Status.Nodes)
	slices.SortFunc(nodes, func(a, b wfv1.NodeStatus) int {
		return cmp.Or(depth[a.ID]-depth[b.ID], a.StartedAt.Compare(b.StartedAt.Time), strings.Compare(a.Name, b.Name))
	})
	return nodes
}

// depths are how many leaves come before each node at most: Argo makes a node a child of what it
// comes after.
func depths(nodes wfv1.Nodes) map[string]int {
	before := make(map[string]int, len(nodes))
	for _, n := range nodes {
		for _, c := range n.Children {
			before[c]++
		}
	}
	var next []string
	for id := range nodes {
		if before[id] == 0 {
			next = append(next, id)
		}
	}
	depth := make(map[string]int, len(nodes))
	for ; len(next) > 0; next = next[1:] {
		n, behind := nodes[next[0]], depth[next[0]]
		if isRelease(n) {
			behind++
		}
		for _, c := range n.Children {
			depth[c] = max(depth[c], behind)
			if before[c]--; before[c] == 0 {
				next = append(next, c)
			}
		}
	}
	return depth
}

func taskOf(wf *wfv1.Workflow, n wfv1.NodeStatus) string {
	return strings.TrimPrefix(n.Name, wf.Name+".")
}
