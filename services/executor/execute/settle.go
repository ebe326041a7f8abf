package execute

import (
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Settled is the workflow with those of the nodes settled that still wait, all at
// once, and how many they are. It does to each what Argo's own util.SetWorkflow
// does to one. The workflow's nodes must be decompressed.
func Settled(wf *wfv1.Workflow, settle []Settle, at time.Time) (*wfv1.Workflow, int) {
	if len(nodesOf(wf)) == 0 {
		return wf, 0
	}
	out := wf.DeepCopy()
	count := 0
	for _, s := range settle {
		node, ok := out.Status.Nodes[s.Node.ID]
		if !ok || !node.IsActiveSuspendNode() {
			continue
		}
		node.Phase = s.Phase
		node.FinishedAt = metav1.Time{Time: at.UTC()}
		if s.Message != "" {
			node.Message = s.Message
		}
		out.Status.Nodes[s.Node.ID] = node
		count++
	}
	return out, count
}
