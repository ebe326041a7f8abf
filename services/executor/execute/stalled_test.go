package execute_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/services/executor/execute"
)

func TestStalled(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	node := func(kind wfv1.NodeType, phase wfv1.NodePhase, ended time.Duration) wfv1.NodeStatus {
		n := wfv1.NodeStatus{Type: kind, Phase: phase, StartedAt: metav1.NewTime(begin)}
		if ended > 0 {
			n.FinishedAt = metav1.NewTime(begin.Add(ended))
		}
		return n
	}
	group := node(wfv1.NodeTypeDAG, wfv1.NodeRunning, 0)
	settled := node(wfv1.NodeTypeSuspend, wfv1.NodeSucceeded, time.Second)
	for name, c := range map[string]struct {
		reason string
		nodes  []wfv1.NodeStatus
		change func(*wfv1.Workflow)
		after  time.Duration
		want   bool
	}{
		"Missed":    {"all is settled, and nothing comes of it", []wfv1.NodeStatus{group, settled}, nil, time.Minute, true},
		"Soon":      {"Argo has time to go on", []wfv1.NodeStatus{group, settled}, nil, 5 * time.Second, false},
		"Active":    {"a release is awaited", []wfv1.NodeStatus{group, settled, node(wfv1.NodeTypeSuspend, wfv1.NodeRunning, 0)}, nil, time.Minute, false},
		"Pod":       {"a pod is awaited", []wfv1.NodeStatus{group, settled, node(wfv1.NodeTypePod, wfv1.NodePending, 0)}, nil, time.Minute, false},
		"NotBegun":  {"Argo has not begun, for want of a controller perhaps", []wfv1.NodeStatus{group}, nil, time.Minute, false},
		"Fulfilled": {"it is over", []wfv1.NodeStatus{settled}, func(wf *wfv1.Workflow) { wf.Status.Phase = wfv1.WorkflowSucceeded }, time.Minute, false},
		"Held":      {"a user holds it", []wfv1.NodeStatus{group, settled}, func(wf *wfv1.Workflow) { wf.Spec.Suspend = new(true) }, time.Minute, false},
		"Deleted":   {"it goes", []wfv1.NodeStatus{group, settled}, func(wf *wfv1.Workflow) { wf.DeletionTimestamp = new(metav1.NewTime(begin)) }, time.Minute, false},
		"Looking":   {"a look at a thousand releases takes Argo seconds", slices.Repeat([]wfv1.NodeStatus{group, settled}, 1000), nil, 30 * time.Second, false},
		"Looked":    {"and they are over", slices.Repeat([]wfv1.NodeStatus{group, settled}, 1000), nil, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			wf := &wfv1.Workflow{}
			wf.CreationTimestamp = metav1.NewTime(begin)
			wf.Status.Phase = wfv1.WorkflowRunning
			wf.Status.Nodes = wfv1.Nodes{}
			for i, n := range c.nodes {
				wf.Status.Nodes[strconv.Itoa(i)] = n
			}
			if c.change != nil {
				c.change(wf)
			}
			if got := execute.Stalled(wf, begin.Add(c.after)); got != c.want {
				t.Errorf("%s: Stalled() = %v", c.reason, got)
			}
		})
	}
}
