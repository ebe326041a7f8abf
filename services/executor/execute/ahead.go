package execute

import (
	"cmp"
	"slices"
	"strings"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
)

const (
	// argoPerNode is about what Argo's look at a workflow takes for each node of the plan, which
	// are two of the workflow or more; and each settlement has Argo look. argoPerPair is what it takes
	// for each node and each other: Argo gathers what comes before each. A look took 0.17 s at a hundred
	// releases, and 7 s at a thousand (docs/benchmarks/costs.md).
	argoPerNode = 2 * time.Millisecond
	argoPerPair = 5 * time.Microsecond
	// settleMany times a look is how long nodes that are done wait for others, so that Argo is at work for a
	// twentieth of the time: it looks once more at what it wrote itself. Where nothing has ended for settleFew
	// times a look nothing more may come for long, and what is done may be seen.
	settleMany = 40
	settleFew  = 4
	// settleLeast and settleMost are how long they wait at least, and at most: what a user may wait for to see
	// a node end in Argo. The group's status does not wait for that. Where the nodes of a thousand releases were
	// settled every 5 s, two of Argo's looks in five were for nothing (a conflict).
	settleLeast = time.Second
	settleMost  = 3 * time.Minute
)

// Open says whether Argo may still activate nodes of the workflow. It has no phase until
// Argo looks at it for the first time; one that Argo holds back is pending.
func Open(wf *wfv1.Workflow) bool {
	return (wf.Status.Phase == wfv1.WorkflowRunning || wf.Status.Phase == wfv1.WorkflowUnknown) &&
		!wf.Spec.Shutdown.Enabled() && wf.DeletionTimestamp == nil
}

// plain is a node that is about a HelmRelease and nothing else: it may be done before
// Argo knows of it. What a gate says may be unsaid (an expression, an object that is
// waited for), so that it counts when Argo has it.
func plain(n plan.Node) bool { return isRelease(n) && n.ReadyExpr == "" }

func isRelease(n plan.Node) bool { return n.Kind == plan.Release || n.Kind == "" }

// decision on a node that is to be settled, or that Argo is about to activate.
type decision struct {
	waiting
	want    plan.Node
	planned bool
	verdict Verdict
	// ahead: Argo has not activated the node yet.
	ahead bool
}

// decisions are those on the nodes that Argo has activated, and then those on the
// nodes that it would activate if it knew what is done: the ones whose parents have
// succeeded in Argo, or are releases that are done. Where some of these are for Argo
// alone to begin, or to come to, it is waited for.
func (s State) decisions() (out []*decision, forArgo bool) {
	active := map[string]*decision{}
	for _, n := range nodesOf(s.Workflow) {
		d := &decision{waiting: n}
		if d.want, d.planned = s.Plan[n.Task]; d.planned {
			d.verdict = s.decide(n, d.want)
		}
		out = append(out, d)
		active[n.Task] = d
	}
	if !s.Early || !Open(s.Workflow) {
		return out, false
	}
	var ahead []*decision
	newWalk(s.Workflow, s.begun(), func(l reached) bool {
		d := active[l.task]
		if d == nil {
			want, planned := s.Plan[l.task]
			begins := planned && l.suspended && plain(want)
			forArgo = forArgo || !begins && !l.active
			if !planned || l.active || !l.suspended || !isRelease(want) {
				return false
			}
			d = &decision{waiting: waiting{Node: Node{Task: l.task}, since: s.Now}, want: want, planned: true, ahead: true}
			if !l.passed || !plain(want) {
				d.verdict = s.expected(d)
			}
			ahead = append(ahead, d)
		}
		if d.planned && plain(d.want) && l.passed {
			d.verdict = Verdict{Step: Succeed}
		}
		return d.planned && plain(d.want) && d.verdict.Step == Succeed
	}).run()
	slices.SortFunc(ahead, func(a, b *decision) int { return cmp.Compare(a.Task, b.Task) })
	return append(out, ahead...), forArgo
}

// expected is the verdict on a release whose node Argo has not activated. Its
// expression is looked at when Argo has: until then it is under way.
func (s State) expected(d *decision) Verdict {
	want := d.want
	want.ReadyExpr = ""
	v := s.decide(d.waiting, want)
	if v.Step == Succeed && !plain(d.want) {
		return Verdict{Step: Wait, InFlight: true}
	}
	return v
}

// begun are the tasks whose releases this workflow wrote, or marked to be deleted, for
// that very node: so all that is before them was done once, whatever it is now.
func (s State) begun() map[string]bool {
	out := map[string]bool{}
	owner := s.Owner()
	for _, hr := range s.Releases {
		if hr != nil && written(owner, hr) {
			out[hr.Annotations[v1alpha1.AnnotationNode]] = true
		}
	}
	return out
}

// failing: something of the workflow has failed. What Argo makes of that is left to
// Argo, and nothing is begun ahead of it.
func (s State) failing(decisions []*decision) bool {
	for _, n := range s.Workflow.Status.Nodes {
		if n.FailedOrError() {
			return true
		}
	}
	return slices.ContainsFunc(decisions, func(d *decision) bool { return !d.planned || d.verdict.Step == Fail })
}

// mayWait says for how long the settlements may wait for more of them; 0: they are due.
// Nobody waits for them where Argo could begin nothing on them but what is begun ahead of
// it, and where a release is under way, whose end asks for another look. What a wait saves
// grows with the nodes that Argo looks at, and with the releases that end meanwhile.
func (s State) mayWait(a Actions, inFlight map[Key]bool, forArgo bool) time.Duration {
	if forArgo || !s.Early || !Open(s.Workflow) || len(a.Settle) == 0 || len(inFlight) == 0 || s.suspended() || a.Superseded != "" {
		return 0
	}
	for _, end := range a.Settle {
		if end.Phase != wfv1.NodeSucceeded || !plain(s.Plan[end.Node.Task]) {
			return 0
		}
	}
	look := lookOf(len(s.Plan))
	changed := s.left(lastChange(s.Workflow), settleMany*look)
	quiet := s.left(s.lastEnd(a.Settle), settleFew*look)
	return max(0, min(changed, quiet))
}

// left is what is left of a wait that began at a time. Kubernetes keeps whole seconds, of which half a one
// was over on average.
func (s State) left(since time.Time, wait time.Duration) time.Duration {
	wait = min(max(wait, settleLeast), settleMost)
	return wait - max(0, s.Now.Sub(since)-time.Second/2)
}

// lastEnd is when the last of the releases that are to be settled became ready. When one was gone nobody has
// written down: as far as is known it was just now.
func (s State) lastEnd(settle []Settle) time.Time {
	var last time.Time
	for _, end := range settle {
		hr := s.Releases[KeyOf(s.Plan[end.Node.Task].Release)]
		if hr == nil {
			return s.Now
		}
		ready := apimeta.FindStatusCondition(hr.Status.Conditions, meta.ReadyCondition)
		if ready == nil {
			return s.Now
		}
		if ready.LastTransitionTime.After(last) {
			last = ready.LastTransitionTime.Time
		}
	}
	return last
}

// lookOf is about how long Argo looks at a workflow of so many leaves.
func lookOf(nodes int) time.Duration {
	return time.Duration(nodes)*argoPerNode + time.Duration(nodes*nodes)*argoPerPair
}

// reached is a leaf that a walk has come to: all that is before it is done.
type reached struct {
	task string
	// active: Argo has activated it, and it is not settled.
	active bool
	// suspended: it is settled from outside, and not run by Argo; and Argo gives it nothing.
	suspended bool
	// passed: something behind it was begun.
	passed bool
}

// walk goes through a workflow as Argo does (executeDAG in its workflow/controller/
// dag.go): a task is come to when all that it depends on has succeeded.
type walk struct {
	wf        *wfv1.Workflow
	templates map[string]*wfv1.Template
	nodes     map[string]nodeSeen // by path: the name without the workflow's
	begun     map[string]bool     // paths of leaves, and of the DAGs that they are in
	// done is asked once of each leaf that is come to and not settled.
	done func(reached) bool
}

// nodeSeen is what a walk asks of a node of Argo's. Those are large, and there are thousands.
type nodeSeen struct{ dag, fulfilled, succeeded bool }

func newWalk(wf *wfv1.Workflow, begun map[string]bool, done func(reached) bool) *walk {
	w := &walk{
		wf: wf, done: done,
		templates: make(map[string]*wfv1.Template, len(wf.Spec.Templates)),
		nodes:     make(map[string]nodeSeen, len(wf.Status.Nodes)),
		begun:     make(map[string]bool, 2*len(begun)),
	}
	for i := range wf.Spec.Templates {
		w.templates[wf.Spec.Templates[i].Name] = &wf.Spec.Templates[i]
	}
	for _, n := range wf.Status.Nodes {
		w.nodes[strings.TrimPrefix(n.Name, wf.Name+".")] = nodeSeen{dag: n.Type == wfv1.NodeTypeDAG, fulfilled: n.Fulfilled(), succeeded: succeeded(n)}
	}
	for path := range begun {
		for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '.') {
			w.begun[path[:end]] = true
		}
	}
	return w
}

// run walks the workflow, unless its templates are elsewhere.
func (w *walk) run() {
	if w.wf.Spec.WorkflowTemplateRef != nil {
		return
	}
	if entry := w.templates[w.wf.Spec.Entrypoint]; entry != nil && entry.DAG != nil {
		w.dag("", entry.DAG, false)
	}
}

// dag walks a DAG, and reports whether all of it has succeeded.
func (w *walk) dag(path string, dag *wfv1.DAGTemplate, passed bool) bool {
	number := make(map[string]int, len(dag.Tasks))
	for i := range dag.Tasks {
		number[dag.Tasks[i].Name] = i
	}
	behind := w.behind(path, dag, number)
	visited := make([]bool, len(dag.Tasks))
	succeeded := make([]bool, len(dag.Tasks))
	var visit func(i int) bool
	visit = func(i int) bool {
		if visited[i] {
			return succeeded[i]
		}
		visited[i] = true
		t := &dag.Tasks[i]
		at := join(path, t.Name)
		// A leaf that Argo has come to has its dependencies behind it, and so has what is over.
		node, there := w.nodes[at]
		ready := there && (!node.dag || node.fulfilled)
		if !ready {
			ready = dag.Target == "" && understood(t) && !slices.ContainsFunc(t.Dependencies, func(d string) bool {
				before, known := number[d]
				return !known || !visit(before)
			})
		}
		succeeded[i] = ready && w.task(at, t.Template, passed || behind[i])
		return succeeded[i]
	}
	all := true
	for i := range dag.Tasks {
		all = visit(i) && all
	}
	return all
}

// task walks what is at a path, and reports whether it has succeeded.
func (w *walk) task(path, template string, passed bool) bool {
	node, active := w.nodes[path]
	if active && node.fulfilled {
		return node.succeeded
	}
	switch t := w.templates[template]; {
	case t == nil:
		return false
	case t.DAG != nil:
		return w.dag(path, t.DAG, passed)
	default:
		return w.done(reached{task: path, active: active, suspended: t.Suspend != nil && !t.Inputs.HasInputs(), passed: passed})
	}
}

// succeeded says whether what depends on a node may begin.
func succeeded(n wfv1.NodeStatus) bool {
	return n.Phase == wfv1.NodeSucceeded || n.Phase == wfv1.NodeSkipped
}

// behind are the tasks, by number, that come before one in which something was begun. Those that
// are over are not all among them: nobody asks for those.
func (w *walk) behind(path string, dag *wfv1.DAGTemplate, number map[string]int) []bool {
	out := make([]bool, len(dag.Tasks))
	if path != "" && !w.begun[path] {
		return out
	}
	var mark func(i int)
	mark = func(i int) {
		if w.nodes[join(path, dag.Tasks[i].Name)].fulfilled {
			return
		}
		for _, d := range dag.Tasks[i].Dependencies {
			if before, known := number[d]; known && !out[before] {
				out[before] = true
				mark(before)
			}
		}
	}
	for i := range dag.Tasks {
		if w.begun[join(path, dag.Tasks[i].Name)] {
			mark(i)
		}
	}
	return out
}

// understood says whether a task is as the compiler makes them: whether one with a
// condition or a loop is come to is Argo's to say.
func understood(t *wfv1.DAGTask) bool {
	return t.When == "" && t.Depends == "" && !t.ShouldExpand() && t.Inline == nil && t.TemplateRef == nil &&
		t.ContinueOn == nil && len(t.Hooks) == 0 && t.OnExit == ""
}

func join(path, name string) string {
	if path == "" || name == "" {
		return path + name
	}
	return path + "." + name
}

// podsOf is how many pods of the workflow Argo counts against its parallelism.
func podsOf(wf *wfv1.Workflow) int {
	count := 0
	for _, n := range wf.Status.Nodes {
		if n.Type == wfv1.NodeTypePod && !n.Fulfilled() {
			count++
		}
	}
	return count
}
