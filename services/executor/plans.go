package executor

import (
	"context"
	"fmt"
	"sync"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"orkestra.dev/pkg/plan"
)

// plans remembers the plans of workflows that run: they never change, and may be
// megabytes.
type plans struct {
	live client.Reader

	mu   sync.Mutex
	byID map[types.UID]map[string]plan.Node
}

func newPlans(live client.Reader) *plans {
	return &plans{live: live, byID: map[types.UID]map[string]plan.Node{}}
}

// of is the plan of a workflow, by task. An empty plan is read again: the Secrets
// of one that is submitted by hand may come after it.
func (p *plans) of(ctx context.Context, wf *wfv1.Workflow) (map[string]plan.Node, error) {
	p.mu.Lock()
	nodes := p.byID[wf.UID]
	p.mu.Unlock()
	if len(nodes) > 0 {
		return nodes, nil
	}
	var secrets corev1.SecretList
	err := p.live.List(ctx, &secrets, client.InNamespace(wf.Namespace), client.MatchingLabels{plan.LabelWorkflow: wf.Name})
	if err != nil {
		return nil, fmt.Errorf("reading the plan of workflow %s: %w", wf.Name, err)
	}
	if nodes, err = plan.Nodes(secrets.Items); err != nil {
		return nil, fmt.Errorf("reading the plan of workflow %s: %w", wf.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID[wf.UID] = nodes
	return nodes, nil
}

// has reports whether the plan of a workflow need not be read.
func (p *plans) has(workflow types.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byID[workflow]) > 0
}

// keep forgets the plans of all workflows but these.
func (p *plans) keep(running map[types.UID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid := range p.byID {
		if !running[uid] {
			delete(p.byID, uid)
		}
	}
}
