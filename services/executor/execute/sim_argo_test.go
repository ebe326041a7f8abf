package execute_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	jsonpatch "github.com/evanphx/json-patch/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The Argo of the simulation.

func (s *sim) node(path string) (wfv1.NodeStatus, bool) {
	n, ok := s.wf.Status.Nodes[s.id(path)]
	return n, ok
}

func (s *sim) id(path string) string {
	return s.wf.NodeID(strings.TrimSuffix(workflow+"."+path, "."))
}

func (s *sim) phase(path string) wfv1.NodePhase {
	n, _ := s.node(path)
	return n.Phase
}

// argo looks at the workflow once, as Argo's executeDAG, executeDAGTask and assessDAGPhase
// do (workflow/controller/dag.go).
func (s *sim) argo() {
	switch {
	case s.wf.Status.Fulfilled() || s.wf.Spec.Suspend != nil:
		return
	case s.wf.Spec.Shutdown.Enabled():
		s.wf.Status.Phase = wfv1.WorkflowFailed
		return
	}
	s.wf.Status.Phase = wfv1.WorkflowRunning
	s.dag("", s.template("entry").DAG)
	if p := s.phase(""); p.Fulfilled(nil) {
		s.wf.Status.Phase = wfv1.WorkflowPhase(p)
	}
}

// argoBehind has Argo look at the workflow as it was some time ago, and put what it did onto
// what is there now, as its reapplyUpdate does (workflow/controller/operator.go).
func (s *sim) argoBehind() {
	is, was := s.wf, s.wfBefore
	s.wf = was.DeepCopy()
	s.argo()
	did := s.wf
	s.wf = is
	if is.Status.Fulfilled() {
		return
	}
	for id, n := range did.Status.Nodes {
		if have, there := is.Status.Nodes[id]; there && have.Fulfilled() && have.Phase != n.Phase {
			return // "must never update completed node"
		}
	}
	patch, err := jsonpatch.CreateMergePatch(s.json(was), s.json(did))
	if err != nil {
		s.t.Fatal(err)
	}
	merged, err := jsonpatch.MergePatch(s.json(is), patch)
	if err != nil {
		s.t.Fatal(err)
	}
	s.wf = &wfv1.Workflow{}
	if err := json.Unmarshal(merged, s.wf); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) json(wf *wfv1.Workflow) []byte {
	out, err := json.Marshal(wf)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *sim) template(name string) *wfv1.Template {
	return &s.wf.Spec.Templates[slices.IndexFunc(s.wf.Spec.Templates, func(t wfv1.Template) bool { return t.Name == name })]
}

// dag executes the DAG at a path, which is empty for the whole.
func (s *sim) dag(path string, dag *wfv1.DAGTemplate) {
	if _, there := s.node(path); !there {
		s.activate(path, wfv1.NodeTypeDAG, wfv1.NodeRunning)
	}
	targets, visited := map[string]bool{}, map[string]bool{}
	for _, t := range dag.Tasks {
		targets[t.Name] = true
	}
	for _, t := range dag.Tasks {
		for _, d := range t.Dependencies {
			delete(targets, d)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(targets)) {
		s.task(path, dag, t, visited)
	}
	n, _ := s.node(path)
	phases := map[string]wfv1.NodePhase{}
	type branch struct {
		id    string
		phase wfv1.NodePhase
	}
	var queue []branch
	for _, c := range n.Children {
		queue = append(queue, branch{c, wfv1.NodeSucceeded})
	}
	for seen := map[branch]bool{}; len(queue) > 0; queue = queue[1:] {
		b := queue[0]
		if seen[b] {
			continue
		}
		seen[b] = true
		c, there := s.wf.Status.Nodes[b.id]
		if !there || !c.Fulfilled() {
			return
		}
		phase := b.phase
		if c.Completed() {
			phase = c.Phase
		}
		if !phases[b.id].FailedOrError() {
			phases[b.id] = phase
		}
		for _, next := range c.Children {
			queue = append(queue, branch{next, phase})
		}
	}
	n.Phase = wfv1.NodeSucceeded
	for _, t := range slices.Sorted(maps.Keys(targets)) {
		switch p := phases[s.id(join(path, t))]; {
		case p == "":
			return
		case p.FailedOrError():
			n.Phase = wfv1.NodeFailed
		}
		n.OutboundNodes = append(n.OutboundNodes, s.outbound(s.id(join(path, t)))...)
	}
	s.wf.Status.Nodes[n.ID] = n
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// task executes one task of a DAG, after those on which it depends.
func (s *sim) task(path string, dag *wfv1.DAGTemplate, name string, visited map[string]bool) {
	at := join(path, name)
	n, there := s.node(at)
	if visited[name] || n.Fulfilled() {
		return
	}
	visited[name] = true
	t := dag.Tasks[slices.IndexFunc(dag.Tasks, func(t wfv1.DAGTask) bool { return t.Name == name })]
	omit := false
	for _, d := range t.Dependencies {
		s.task(path, dag, d, visited)
	}
	for _, d := range t.Dependencies {
		before, _ := s.node(join(path, d))
		if !there && !before.Fulfilled() {
			return
		}
		omit = omit || before.Phase != wfv1.NodeSucceeded
	}
	template := s.template(t.Template)
	if !there {
		kind, phase := wfv1.NodeTypeSuspend, wfv1.NodeRunning
		switch {
		case omit:
			kind, phase = wfv1.NodeTypeSkipped, wfv1.NodeOmitted
		case template.DAG != nil:
			kind = wfv1.NodeTypeDAG
		case template.Container != nil:
			kind = wfv1.NodeTypePod
		}
		s.activate(at, kind, phase)
		parents := []string{s.id(path)}
		if len(t.Dependencies) > 0 {
			parents = nil
		}
		for _, d := range t.Dependencies {
			parents = append(parents, s.outbound(s.id(join(path, d)))...)
		}
		for _, p := range parents {
			parent := s.wf.Status.Nodes[p]
			if !slices.Contains(parent.Children, s.id(at)) {
				parent.Children = append(slices.Clip(parent.Children), s.id(at))
			}
			s.wf.Status.Nodes[p] = parent
		}
	}
	if template.DAG != nil && !omit {
		s.dag(at, template.DAG)
	}
}

// activate is a new node at a path.
func (s *sim) activate(path string, kind wfv1.NodeType, phase wfv1.NodePhase) {
	id := s.id(path)
	if s.wf.Status.Nodes == nil { // JSON leaves out what is empty
		s.wf.Status.Nodes = wfv1.Nodes{}
	}
	s.wf.Status.Nodes[id] = wfv1.NodeStatus{ID: id, Name: strings.TrimSuffix(workflow+"."+path, "."), Type: kind, Phase: phase, StartedAt: metav1.Time{Time: now}}
}

func (s *sim) outbound(id string) []string {
	n := s.wf.Status.Nodes[id]
	if n.Type != wfv1.NodeTypeDAG {
		return []string{id}
	}
	var out []string
	for _, o := range n.OutboundNodes {
		out = append(out, s.outbound(o)...)
	}
	return out
}
