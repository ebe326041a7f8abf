package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// Defaults of Options.
const (
	DefaultNamespace   = "orkestra"
	DefaultParallelism = 10
)

// How long Argo keeps a finished workflow. The group's status remembers the outcome,
// so a workflow is kept only for people to look at, longer where it failed.
const (
	keepSucceeded = 24 * 60 * 60
	keepFailed    = 7 * 24 * 60 * 60
)

// entrypoint is the name of the template that is the DAG of applications.
const entrypoint = "entry"

// Options of an installation of Orkestra.
type Options struct {
	// Namespace of Workflows, plans and HelmCharts. The default is DefaultNamespace.
	Namespace string
	// Parallelism is how many releases of one workflow may be in work at a time. The
	// default is DefaultParallelism.
	Parallelism int64
}

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.Parallelism <= 0 {
		o.Parallelism = DefaultParallelism
	}
	return o
}

// Plan is a workflow, and what is to be done at each of its nodes.
type Plan struct {
	// Workflow to submit.
	Workflow *wfv1.Workflow
	// Nodes by task, sorted.
	Nodes []plan.Node
	// Graph that the workflow walks, in the direction in which it walks it.
	Graph *GroupGraph
}

// Secrets that carry the nodes to the executors. They have no owner yet: they are
// written before the workflow is, whose UID is not known until then.
func (p *Plan) Secrets() ([]*corev1.Secret, error) {
	labels := map[string]string{}
	for _, k := range []string{v1alpha1.LabelHeritage, v1alpha1.LabelOwner} {
		labels[k] = p.Workflow.Labels[k]
	}
	secrets, err := plan.Secrets(p.Workflow.Name, p.Workflow.Namespace, labels, p.Nodes)
	if err != nil {
		return nil, ungenerable("packing the plan: %w", err)
	}
	return secrets, nil
}

// WorkflowName is the name of a rollout's workflow: <group>-<type>-g<generation>-<hash>,
// cut to what a label's value may have. Attempt is 0 for the first.
func WorkflowName(rollout events.Rollout, workflowType events.WorkflowType, attempt int) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		rollout.UID, strconv.FormatInt(rollout.Generation, 10), rollout.RequestedAt, string(workflowType),
	}, "\x00")))
	tail := fmt.Sprintf("-%s-g%d-%s", workflowType, rollout.Generation, hex.EncodeToString(sum[:])[:8])
	if attempt > 0 {
		tail += "-" + strconv.Itoa(attempt)
	}
	return v1alpha1.Shorten(v1alpha1.DNSName(rollout.Group), v1alpha1.MaxLabel-len(tail)) + tail
}

// compiler is one compilation: what all its objects have in common.
type compiler struct {
	rollout  events.Rollout
	options  Options
	kind     events.WorkflowType
	workflow string
	// identity is the rollout as JSON.
	identity string
}

func newCompiler(rollout events.Rollout, options Options, kind events.WorkflowType, attempt int) (*compiler, error) {
	identity, err := json.Marshal(rollout)
	if err != nil {
		return nil, fmt.Errorf("encoding rollout %s: %w", rollout.ID(), err)
	}
	return &compiler{
		rollout:  rollout,
		options:  options.withDefaults(),
		kind:     kind,
		workflow: WorkflowName(rollout, kind, attempt),
		identity: string(identity),
	}, nil
}

// releases is the HelmRelease of each task, by application and task.
type releases map[string]map[string]*helmv2.HelmRelease

// phase is a graph that is walked whole before the next phase begins: what is to be
// there comes up before what is not goes away.
type phase struct {
	action plan.Action
	graph  *GroupGraph
	// objects of the graph's tasks.
	objects releases
	// prefix of the tasks of the entry DAG, so that those of two phases stay apart.
	prefix string
}

// assemble makes the plan of phases, in each of which applications and tasks are unique.
func (c *compiler) assemble(phases ...phase) (*Plan, error) {
	b := &builder{templates: newNames(), leaves: map[plan.Action]string{}}
	for _, p := range phases {
		leaf := "release-" + string(p.action)
		b.leaves[p.action] = b.templates.name(leaf, leaf)
	}
	b.templates.name(entrypoint, entrypoint)
	out := &Plan{Graph: phases[0].graph}

	entries := newNames()
	var entry []wfv1.DAGTask
	var last []string // the tasks that end the phase before
	for _, p := range phases {
		named := func(application string) string { return p.prefix + v1alpha1.DNSName(application) }
		for _, name := range plainFirst(p.graph.Applications, func(a ApplicationGraph) string { return named(a.Name) }) {
			entries.name(name, name)
		}
		b.failFast = p.action != plan.Delete
		ends := map[string]bool{}
		for _, app := range p.graph.Applications {
			ends[entries.of(named(app.Name))] = true
		}
		for _, app := range p.graph.Applications {
			before := slices.Clone(last)
			if len(app.Dependencies) > 0 {
				before = make([]string, len(app.Dependencies))
			}
			for i, d := range app.Dependencies {
				before[i] = entries.of(named(d))
				delete(ends, before[i])
			}
			name := entries.of(named(app.Name))
			template := b.templates.name("application/"+named(app.Name), named(app.Name))
			entry = append(entry, task(name, template, before))
			dag, nodes := b.application(name, b.leaves[p.action], app)
			b.add(template, dag)
			for _, n := range nodes {
				release := p.objects[app.Name][n.release]
				if release == nil {
					return nil, fmt.Errorf("assembling workflow %s: no release for task %s of application %s", c.workflow, n.release, app.Name)
				}
				out.Nodes = append(out.Nodes, plan.Node{Task: n.path, Action: p.action, Release: release.DeepCopy()})
			}
		}
		last = slices.Sorted(maps.Keys(ends))
	}
	b.failFast = phases[0].action != plan.Delete
	b.add(entrypoint, entry)
	slices.SortFunc(out.Nodes, func(a, b plan.Node) int { return strings.Compare(a.Task, b.Task) })

	out.Workflow = &wfv1.Workflow{
		TypeMeta: metav1.TypeMeta{APIVersion: wfv1.SchemeGroupVersion.String(), Kind: "Workflow"},
		ObjectMeta: metav1.ObjectMeta{
			Name:      c.workflow,
			Namespace: c.options.Namespace,
			Labels: owned(c.rollout.Group, map[string]string{
				v1alpha1.LabelWorkflowType: string(c.kind),
				v1alpha1.LabelGeneration:   strconv.FormatInt(c.rollout.Generation, 10),
			}),
			Annotations: map[string]string{
				v1alpha1.AnnotationRollout:  c.identity,
				v1alpha1.AnnotationGroupUID: c.rollout.UID,
			},
			OwnerReferences: []metav1.OwnerReference{OwnerReference(c.rollout)},
		},
		Spec: wfv1.WorkflowSpec{
			Entrypoint:  entrypoint,
			Templates:   b.finish(),
			Parallelism: new(c.options.Parallelism),
			TTLStrategy: &wfv1.TTLStrategy{
				SecondsAfterSuccess: new(int32(keepSucceeded)),
				SecondsAfterFailure: new(int32(keepFailed)),
			},
			PodGC: &wfv1.PodGC{Strategy: wfv1.PodGCOnPodSuccess},
		},
	}
	if err := validate(out.Workflow); err != nil {
		return nil, err
	}
	return out, nil
}

// OwnerReference makes a group the owner of what is made for its rollout. It does
// not block the owner's deletion: the finalizer does, and in order.
func OwnerReference(rollout events.Rollout) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion:         v1alpha1.GroupVersion.String(),
		Kind:               v1alpha1.Kind,
		Name:               rollout.Group,
		UID:                types.UID(rollout.UID),
		Controller:         new(true),
		BlockOwnerDeletion: new(false),
	}
}

// builder collects the templates of a workflow.
type builder struct {
	templates *names
	leaves    map[plan.Action]string
	failFast  bool
	dags      []wfv1.Template
}

// node is a leaf of the workflow: its path in Argo without the workflow's name, and
// the task whose release it is about.
type node struct{ path, release string }

// application is the DAG of an application's releases, and its leaves.
func (b *builder) application(entry, leaf string, app ApplicationGraph) ([]wfv1.DAGTask, []node) {
	tasks := newNames()
	for _, name := range plainFirst(app.Releases, func(r ReleaseGraph) string { return r.Task }) {
		tasks.name(name, name)
	}
	var dag []wfv1.DAGTask
	var leaves []node
	for _, r := range app.Releases {
		before := make([]string, len(r.Dependencies))
		for i, d := range r.Dependencies {
			before[i] = tasks.of(d)
		}
		name := tasks.of(r.Task)
		path := entry + "." + name
		if len(r.Executors) < 2 {
			dag = append(dag, task(name, leaf, before))
			leaves = append(leaves, node{path: path, release: r.Task})
			continue
		}
		template := b.templates.name("task/"+path, r.Task)
		dag = append(dag, task(name, template, before))
		steps, names := b.executors(leaf, r.Executors)
		b.add(template, steps)
		for _, n := range names {
			leaves = append(leaves, node{path: path + "." + n, release: r.Task})
		}
	}
	return dag, leaves
}

// executors is the DAG of a release's executors, and their names in it.
func (b *builder) executors(leaf string, executors []ExecutorGraph) ([]wfv1.DAGTask, []string) {
	steps := newNames()
	for _, name := range plainFirst(executors, func(e ExecutorGraph) string { return v1alpha1.DNSName(e.Name) }) {
		steps.name(name, name)
	}
	var dag []wfv1.DAGTask
	var out []string
	for _, e := range executors {
		before := make([]string, len(e.Dependencies))
		for i, d := range e.Dependencies {
			before[i] = steps.of(v1alpha1.DNSName(d))
		}
		name := steps.of(v1alpha1.DNSName(e.Name))
		dag = append(dag, task(name, leaf, before))
		out = append(out, name)
	}
	return dag, out
}

func (b *builder) add(name string, tasks []wfv1.DAGTask) {
	slices.SortFunc(tasks, func(a, b wfv1.DAGTask) int { return strings.Compare(a.Name, b.Name) })
	dag := &wfv1.DAGTemplate{Tasks: tasks}
	if !b.failFast {
		// What can still be removed is removed, also where something cannot.
		dag.FailFast = new(false)
	}
	b.dags = append(b.dags, wfv1.Template{Name: name, DAG: dag})
}

// finish is the templates: the entry first, the leaves last, the others by name.
func (b *builder) finish() []wfv1.Template {
	rank := func(t wfv1.Template) int {
		if t.Name == entrypoint {
			return 0
		}
		return 1
	}
	slices.SortFunc(b.dags, func(x, y wfv1.Template) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	for _, leaf := range slices.Sorted(maps.Values(b.leaves)) {
		b.dags = append(b.dags, wfv1.Template{Name: leaf, Suspend: &wfv1.SuspendTemplate{}})
	}
	return b.dags
}

func task(name, template string, dependencies []string) wfv1.DAGTask {
	slices.Sort(dependencies)
	if len(dependencies) == 0 {
		dependencies = nil
	}
	return wfv1.DAGTask{Name: name, Template: template, Dependencies: dependencies}
}
