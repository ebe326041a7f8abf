package execute

import (
	"maps"
	"slices"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Settled is the workflow with those of the nodes settled that still wait, and with the
// nodes of what is done ahead of Argo, all at once, and how many they are. To a node that
// waits it does what Argo's own util.SetWorkflow does to one. The workflow's nodes must be
// decompressed.
func Settled(wf *wfv1.Workflow, settle []Settle, at time.Time) (*wfv1.Workflow, int) {
	out := wf.DeepCopy()
	ahead := map[string]Settle{}
	for _, s := range settle {
		if s.Node.ID == "" {
			ahead[s.Node.Task] = s
		}
	}
	count := 0
	waiting := map[string]bool{}
	for _, n := range nodesOf(out) {
		waiting[n.ID] = true
		// Argo may have activated meanwhile what was done ahead of it.
		if s, ok := ahead[n.Task]; ok {
			s.Node.ID = n.ID
			settle = append(slices.Clip(settle), s)
		}
	}
	for _, s := range settle {
		node := out.Status.Nodes[s.Node.ID]
		if !waiting[s.Node.ID] || node.Fulfilled() {
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
	return out, count + place(out, ahead, at)
}

// mayPlace says whether nodes may be written for which Argo has none: it goes on with the
// workflow, and would activate them.
func mayPlace(wf *wfv1.Workflow) bool {
	if !Open(wf) || wf.Spec.Suspend != nil && *wf.Spec.Suspend || !wf.Status.Nodes.Has(wf.NodeID(wf.Name)) {
		return false
	}
	for _, n := range wf.Status.Nodes {
		if n.FailedOrError() {
			return false
		}
	}
	return true
}

// place writes the nodes of leaves that are done before Argo has activated them, as Argo
// would have, and reports how many. Argo takes a node that has succeeded for done (executeDAGTask
// in its workflow/controller/dag.go), so that one look of it walks all levels that are done.
func place(wf *wfv1.Workflow, done map[string]Settle, at time.Time) int {
	if len(done) == 0 || !mayPlace(wf) {
		return 0
	}
	p := &placing{done: map[string]Settle{}, at: metav1.Time{Time: at.UTC()}}
	p.walk = newWalk(wf, nil, func(l reached) bool {
		s, ok := done[l.task]
		if !ok || l.active || !l.suspended {
			return false
		}
		p.done[l.task] = s
		return true
	})
	p.run()
	if len(p.done) == 0 {
		return 0
	}
	entry := p.templates[wf.Spec.Entrypoint].DAG
	p.write("", entry)
	p.link("", entry)
	return len(p.done)
}

// placing writes nodes into the workflow of a walk.
type placing struct {
	*walk
	// done are the leaves to write, by path.
	done map[string]Settle
	at   metav1.Time
}

// name of the node at a path, which is empty for that of the whole workflow.
func (p *placing) name(path string) string { return join(p.wf.Name, path) }

func (p *placing) id(path string) string { return p.wf.NodeID(p.name(path)) }

// write writes the nodes in a DAG that are to be written. It returns when the first of
// those began, zero where there is none, and whether all of the DAG has succeeded.
func (p *placing) write(path string, dag *wfv1.DAGTemplate) (began time.Time, all bool) {
	all = true
	for i := range dag.Tasks {
		t := &dag.Tasks[i]
		at := join(path, t.Name)
		id := p.id(at)
		var first time.Time
		if inner := p.inner(t.Template); inner != nil {
			var ended bool
			if first, ended = p.write(at, inner); !first.IsZero() && !p.wf.Status.Nodes.Has(id) {
				p.add(path, t, wfv1.NodeStatus{Type: wfv1.NodeTypeDAG, Phase: wfv1.NodeRunning, StartedAt: metav1.Time{Time: first}})
			}
			if n, there := p.wf.Status.Nodes[id]; there && ended && !n.Fulfilled() {
				// What comes after a DAG is there only when that has ended: one that runs would wait for it.
				n.Phase, n.FinishedAt, n.OutboundNodes = wfv1.NodeSucceeded, p.at, p.outbound(at, t.Template)
				p.wf.Status.Nodes[id] = n
			}
		} else if s, ok := p.done[at]; ok {
			first = s.Since.UTC()
			p.add(path, t, wfv1.NodeStatus{Type: wfv1.NodeTypeSuspend, Phase: s.Phase, StartedAt: metav1.Time{Time: first}, FinishedAt: p.at})
		}
		if began.IsZero() || !first.IsZero() && first.Before(began) {
			began = first
		}
		all = all && succeeded(p.wf.Status.Nodes[id])
	}
	return began, all
}

// add is Argo's initializeNode (workflow/controller/operator.go) for a task of the DAG at a path.
func (p *placing) add(path string, t *wfv1.DAGTask, n wfv1.NodeStatus) {
	at := join(path, t.Name)
	n.ID, n.Name, n.DisplayName = p.id(at), p.name(at), t.Name
	n.TemplateName, n.TemplateScope = t.Template, p.wf.Status.Nodes[p.id("")].TemplateScope
	n.BoundaryID = p.id(path)
	p.wf.Status.Nodes[n.ID] = n
}

// link makes each node of a DAG a child of what comes before it, as connectDependencies
// does in Argo's executeDAGTask: by these Argo finds out whether a DAG has ended
// (assessDAGPhase).
func (p *placing) link(path string, dag *wfv1.DAGTemplate) {
	ends := make(map[string][]string, len(dag.Tasks))
	for i := range dag.Tasks {
		t := &dag.Tasks[i]
		ends[t.Name] = p.outbound(join(path, t.Name), t.Template)
	}
	for i := range dag.Tasks {
		t := &dag.Tasks[i]
		at := join(path, t.Name)
		id := p.id(at)
		if !p.wf.Status.Nodes.Has(id) {
			continue
		}
		if len(t.Dependencies) == 0 {
			p.child(p.id(path), id)
		}
		for _, d := range t.Dependencies {
			for _, parent := range ends[d] {
				p.child(parent, id)
			}
		}
		if inner := p.inner(t.Template); inner != nil {
			p.link(at, inner)
		}
	}
}

// inner is the DAG that a template is; nil where it is none.
func (p *placing) inner(template string) *wfv1.DAGTemplate {
	if t := p.templates[template]; t != nil {
		return t.DAG
	}
	return nil
}

// outbound are the leaves with which what is at a path ends: of a DAG those of the tasks on
// which no other depends.
func (p *placing) outbound(path, template string) []string {
	inner := p.inner(template)
	if inner == nil {
		return []string{p.id(path)}
	}
	last := map[string]string{}
	for _, t := range inner.Tasks {
		last[t.Name] = t.Template
	}
	for _, t := range inner.Tasks {
		for _, d := range t.Dependencies {
			delete(last, d)
		}
	}
	var out []string
	for _, task := range slices.Sorted(maps.Keys(last)) {
		out = append(out, p.outbound(join(path, task), last[task])...)
	}
	return out
}

// child adds a node to the children of another, once.
func (p *placing) child(parent, id string) {
	n, ok := p.wf.Status.Nodes[parent]
	if ok && !slices.Contains(n.Children, id) {
		n.Children = append(slices.Clip(n.Children), id)
		p.wf.Status.Nodes[parent] = n
	}
}
