package execute_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
	"orkestra.dev/services/executor/execute"
)

// Kinds of leaves of the simulated workflows.
const (
	plainLeaf = iota
	exprLeaf
	jobLeaf
	waitLeaf
	podLeaf
	leafKinds
)

// simLeaf is a leaf of a workflow, with all the leaves that come before it: the order is
// kept flat here, beside the templates, so that the two check each other.
type simLeaf struct {
	task    string
	kind    int
	release execute.Key
	before  []string
	fails   bool // what a pod comes to
}

// sim is a cluster with one workflow: an Argo that walks its templates, a
// helm-controller, and executors that look at any time, at old releases, and die.
type sim struct {
	t      *testing.T
	rng    *rand.Rand
	action plan.Action
	leaves []*simLeaf
	wf     *wfv1.Workflow
	// wfBefore is the workflow as Argo may still have it.
	wfBefore *wfv1.Workflow
	plan     map[string]plan.Node
	group    *metav1.ObjectMeta

	releases, stale map[execute.Key]*helmv2.HelmRelease
	version         int
	fails           map[execute.Key]bool // releases that helm-controller gives up on
	jobs            map[string]*batchv1.Job
	open            map[string]bool // waits, and expressions, that hold

	done  map[string]bool // releases that were done once, by the task that began them
	begun map[string]bool
	// ahead are the releases that were begun ahead of Argo, placed the nodes that were written.
	ahead, placed int
}

func newSim(t *testing.T, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := &sim{
		t: t, rng: rng, action: plan.Install, plan: map[string]plan.Node{},
		releases: map[execute.Key]*helmv2.HelmRelease{}, fails: map[execute.Key]bool{},
		jobs: map[string]*batchv1.Job{}, open: map[string]bool{}, done: map[string]bool{}, begun: map[string]bool{},
		group: &metav1.ObjectMeta{Name: group, UID: groupUID, Generation: 2},
	}
	kind := events.WorkflowForward
	if rng.IntN(4) == 0 {
		s.action, kind = plan.Delete, events.WorkflowReverse
	}
	s.wf = &wfv1.Workflow{
		ObjectMeta: metav1.ObjectMeta{Name: workflow, UID: wfUID, CreationTimestamp: metav1.Time{Time: now},
			Labels: map[string]string{v1alpha1.LabelWorkflowType: string(kind)}},
		Spec:   wfv1.WorkflowSpec{Entrypoint: "entry"},
		Status: wfv1.WorkflowStatus{Nodes: wfv1.Nodes{}},
	}
	if rng.IntN(2) == 0 {
		s.wf.Spec.Parallelism = new(int64(1 + rng.IntN(4)))
	}
	s.wf.Spec.Templates = []wfv1.Template{{Name: "wait", Suspend: &wfv1.SuspendTemplate{}}, {Name: "pod", Container: &corev1.Container{}}}
	s.wfBefore = s.wf
	s.level("", "entry", nil, 1+rng.IntN(3), []int{1 + rng.IntN(3), 1 + rng.IntN(3)}, execute.Key{})
	return s
}

// level makes a DAG of n tasks, each of which is a DAG or a leaf, as the compiler makes them: a DAG of one leaf is often that leaf.
func (s *sim) level(path, template string, before []string, n int, below []int, release execute.Key) []string {
	var all []string
	dag := &wfv1.DAGTemplate{}
	parts := make([][]string, n)
	for i := range n {
		name := string(rune('a'+len(below))) + strconv.Itoa(i)
		task := wfv1.DAGTask{Name: name}
		at := strings.TrimPrefix(path+"."+name, ".")
		mine := slices.Clone(before)
		for j := range i {
			if s.rng.IntN(2) == 0 {
				task.Dependencies = append(task.Dependencies, dag.Tasks[j].Name)
				mine = append(mine, s.through(dag, parts, j)...)
			}
		}
		one := len(below) > 0 && s.rng.IntN(3) == 0
		if one || len(below) == 1 {
			release = execute.Key{Namespace: "target", Name: strings.ReplaceAll(at, ".", "-")}
		}
		if one || len(below) == 0 {
			l := &simLeaf{task: at, kind: s.rng.IntN(leafKinds), release: release, before: mine, fails: s.rng.IntN(15) == 0}
			if s.action == plan.Delete && l.kind != podLeaf || s.rng.IntN(2) == 0 {
				l.kind = plainLeaf
			}
			task.Template = s.leaf(l)
			parts[i] = []string{at}
		} else {
			task.Template = "dag-" + at
			parts[i] = s.level(at, task.Template, mine, below[0], below[1:], release)
		}
		dag.Tasks = append(dag.Tasks, task)
		all = append(all, parts[i]...)
	}
	s.wf.Spec.Templates = append(s.wf.Spec.Templates, wfv1.Template{Name: template, DAG: dag})
	return all
}

// through is the leaves of a task, and of all that comes before it in its DAG.
func (s *sim) through(dag *wfv1.DAGTemplate, parts [][]string, j int) []string {
	out := slices.Clone(parts[j])
	for k, t := range dag.Tasks {
		if slices.Contains(dag.Tasks[j].Dependencies, t.Name) {
			out = append(out, s.through(dag, parts, k)...)
		}
	}
	return out
}

// leaf adds a leaf and its plan, and returns its template.
func (s *sim) leaf(l *simLeaf) string {
	s.leaves = append(s.leaves, l)
	hr := wanted(l.release.Name)
	n := plan.Node{Task: l.task, Action: s.action, Release: hr, Timeout: metav1.Duration{Duration: time.Hour}}
	if _, ok := s.fails[l.release]; !ok {
		s.fails[l.release] = s.action == plan.Install && s.rng.IntN(15) == 0
		if s.action == plan.Delete || s.rng.IntN(4) == 0 {
			s.put(existing(l.release.Name)) // of an earlier workflow; often it is as wanted
		}
	}
	switch l.kind {
	case exprLeaf:
		n.ReadyExpr = `has(self.metadata.labels.open)`
	case jobLeaf:
		n.Kind, n.Job = plan.Job, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "target", Name: strings.ReplaceAll(l.task, ".", "-"), Labels: hr.Labels}}
	case waitLeaf:
		n.Kind, n.Wait = plan.Wait, &v1alpha1.WaitFor{APIVersion: "v1", Kind: "ConfigMap", Namespace: "target", Name: l.task, Expr: "true"}
	}
	s.plan[l.task] = n
	if l.kind == podLeaf {
		return "pod"
	}
	return "wait"
}

func (s *sim) put(hr *helmv2.HelmRelease) {
	s.version++
	hr.ResourceVersion = strconv.Itoa(s.version)
	s.releases[execute.KeyOf(hr)] = hr
}

// helm goes on with one release; it reports whether there was one.
func (s *sim) helm() bool {
	for _, l := range s.shuffled() {
		hr := s.releases[l.release]
		if hr == nil || hr.Annotations[v1alpha1.AnnotationWorkflow] != workflow {
			continue
		}
		switch c := hr.DeepCopy(); {
		case c.DeletionTimestamp != nil:
			delete(s.releases, l.release)
			s.done[c.Annotations[v1alpha1.AnnotationNode]] = true
			return true
		case s.action == plan.Install && c.Status.ObservedGeneration != c.Generation:
			c.Status.ObservedGeneration = c.Generation
			if ready(metav1.ConditionTrue, "InstallSucceeded", "installed")(c); s.fails[l.release] {
				failed(c)
			}
			s.put(c)
			s.done[c.Annotations[v1alpha1.AnnotationNode]] = !s.fails[l.release]
			return true
		}
	}
	return false
}

// flap has a release that was ready go on to something else.
func (s *sim) flap() {
	for _, l := range s.shuffled() {
		if hr := s.releases[l.release]; hr != nil && s.done[hr.Annotations[v1alpha1.AnnotationNode]] {
			c := hr.DeepCopy()
			failed(c)
			s.put(c)
			return
		}
	}
}

// gates lets one gate, or a pod, come to its end; it reports whether there was one.
func (s *sim) gates() bool {
	for _, l := range s.shuffled() {
		if s.phase(l.task) != wfv1.NodeRunning {
			continue
		}
		job := s.jobs[l.task]
		switch {
		case l.kind == podLeaf:
			n, _ := s.node(l.task)
			if n.Phase = wfv1.NodeSucceeded; l.fails {
				n.Phase = wfv1.NodeFailed
			}
			s.wf.Status.Nodes[n.ID] = n
			return true
		case job != nil && len(job.Status.Conditions) == 0:
			job = job.DeepCopy()
			job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
			s.jobs[l.task] = job
			return true
		case (l.kind == waitLeaf || l.kind == exprLeaf) && !s.open[l.task]:
			s.open[l.task] = true
			return true
		}
	}
	return false
}

func (s *sim) shuffled() []*simLeaf {
	out := slices.Clone(s.leaves)
	s.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// state is what an executor sees: the releases perhaps as they were.
func (s *sim) state(early, stale bool) execute.State {
	out := execute.State{
		Now: now.Add(time.Duration(s.rng.IntN(3)) * time.Second), Workflow: s.wf.DeepCopy(), Rollout: rollout, Group: s.group, Plan: s.plan,
		Releases: map[execute.Key]*helmv2.HelmRelease{}, Jobs: s.jobs, Objects: map[string]execute.Object{}, Early: early,
	}
	from := s.releases
	if stale && s.stale != nil {
		from = s.stale
	}
	for k, hr := range from {
		out.Releases[k] = hr
	}
	for _, l := range s.leaves {
		if l.kind == waitLeaf && s.open[l.task] {
			out.Objects[l.task] = execute.Object{Content: map[string]any{}}
		}
		if hr := out.Releases[l.release]; l.kind == exprLeaf && hr != nil && s.open[l.task] {
			hr = hr.DeepCopy()
			hr.Labels["open"] = "true"
			out.Releases[l.release] = hr
		}
	}
	return out
}

// look is one of an executor, that may die in the middle; it reports whether it did anything.
func (s *sim) look(early, stale, dies bool) bool {
	acted := false
	for {
		seen := s.state(early, stale)
		a, err := execute.Next(seen)
		if err != nil {
			s.t.Fatal(err)
		}
		if dies && s.rng.IntN(2) == 0 {
			a.Apply, a.Delete = a.Apply[:s.rng.IntN(len(a.Apply)+1)], a.Delete[:s.rng.IntN(len(a.Delete)+1)]
			s.begin(a, seen)
			return true
		}
		if s.begin(a, seen) {
			acted, stale = true, false
			continue
		}
		if a.Later > 0 && s.rng.IntN(4) > 0 || len(a.Settle) == 0 {
			return acted
		}
		if s.rng.IntN(4) == 0 { // Argo has written in between, and what was decided is done to what is there now
			s.argo()
			seen.Workflow = s.wf.DeepCopy()
		}
		wf, count := execute.Settled(seen.Workflow, a.Settle, now)
		for _, n := range wf.Status.Nodes {
			if _, before := seen.Workflow.Status.Nodes[n.ID]; !before && n.Type == wfv1.NodeTypeSuspend {
				s.placed++
			}
		}
		s.wf = wf
		if !a.Opens || count == 0 {
			return acted || count > 0
		}
		acted = true
	}
}

// begin writes, where what is there is what was seen, and reports whether it wrote.
func (s *sim) begin(a execute.Actions, seen execute.State) bool {
	wrote := false
	fresh := func(k execute.Key) bool {
		was, is := seen.Releases[k], s.releases[k]
		return was == nil && is == nil || was != nil && is != nil && was.ResourceVersion == is.ResourceVersion
	}
	for _, x := range a.Apply {
		if k := execute.KeyOf(x.Release); fresh(k) {
			s.allowed(x.Node, seen)
			hr := x.Release.DeepCopy()
			delete(hr.Labels, "open")
			if old := s.releases[k]; old == nil || old.Status.ObservedGeneration == 0 || s.fails[k] {
				hr.Generation++
			} else {
				hr.Status = *old.Status.DeepCopy()
				s.done[x.Node.Task] = true // it is as wanted
			}
			s.put(hr)
			wrote = true
		}
	}
	for _, x := range a.Delete {
		if k := execute.KeyOf(x.Release); fresh(k) {
			s.allowed(x.Node, seen)
			hr := x.Release
			if x.Mark != nil {
				hr = x.Mark
			}
			hr = hr.DeepCopy()
			hr.DeletionTimestamp = &metav1.Time{Time: now}
			s.put(hr)
			wrote = true
		}
	}
	for _, x := range a.Run {
		if s.jobs[x.Node.Task] == nil {
			s.allowed(x.Node, seen)
			s.jobs[x.Node.Task], wrote = x.Job, true
		}
	}
	return wrote
}

// allowed fails the test where a node was begun that Argo could not have activated.
func (s *sim) allowed(n execute.Node, seen execute.State) {
	s.t.Helper()
	s.begun[n.Task] = true
	l := s.leaves[slices.IndexFunc(s.leaves, func(l *simLeaf) bool { return l.task == n.Task })]
	for _, b := range l.before {
		prior := s.leaves[slices.IndexFunc(s.leaves, func(l *simLeaf) bool { return l.task == b })]
		// A release that is gone, or that another step has installed, needs nothing to be begun.
		there := s.releases[prior.release]
		was := s.done[b] || s.action == plan.Delete && there == nil ||
			s.action == plan.Install && there != nil && s.done[there.Annotations[v1alpha1.AnnotationNode]]
		if s.phase(b) != wfv1.NodeSucceeded && (prior.kind != plainLeaf || !was) {
			s.t.Errorf("%s was begun before %s was done", n.Task, b)
		}
	}
	switch {
	case s.wf.Status.Fulfilled(), s.wf.Spec.Shutdown.Enabled(), s.wf.Spec.Suspend != nil:
		s.t.Errorf("%s was begun by a workflow that is over, stopped or held", n.Task)
	case s.action == plan.Install && s.group.Generation != rollout.Generation:
		s.t.Errorf("%s was begun for an older generation", n.Task)
	}
	if n.ID != "" {
		return
	}
	s.ahead++
	for _, other := range seen.Workflow.Status.Nodes {
		if other.FailedOrError() {
			s.t.Errorf("%s was begun ahead of Argo after %s had failed", n.Task, other.Name)
		}
	}
}

// ends are how all leaves ended.
func (s *sim) ends() map[string]string {
	out := map[string]string{"workflow": string(s.wf.Status.Phase)}
	for _, l := range s.leaves {
		out[l.task] = fmt.Sprint(s.phase(l.task), " begun:", s.begun[l.task])
	}
	return out
}
