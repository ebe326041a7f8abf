package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	wfv1 "github.com/argoproj/argo-workflows/v3/pkg/apis/workflow/v1alpha1"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/plan"
)

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
	b := &builder{compiler: c, templates: newNames(), suspended: map[string]bool{}}
	for _, p := range phases {
		leaf := suspendName(plan.Release, p.action)
		b.templates.name("suspend/"+leaf, leaf)
	}
	b.templates.name(entrypoint, entrypoint)

	entries := newNames()
	var entry []wfv1.DAGTask
	var last []string // the tasks that end the phase before
	for _, p := range phases {
		tasks, ends, err := b.phase(p, entries, last)
		if err != nil {
			return nil, err
		}
		entry, last = append(entry, tasks...), ends
	}
	b.failFast = phases[0].action != plan.Delete
	b.add(entrypoint, entry)
	slices.SortFunc(b.nodes, func(a, b plan.Node) int { return strings.Compare(a.Task, b.Task) })

	out := &Plan{Graph: phases[0].graph, Nodes: b.nodes, Workflow: c.workflowOf(b.finish())}
	if err := validate(out.Workflow); err != nil {
		return nil, err
	}
	return out, nil
}

// builder collects the templates and the nodes of a workflow.
type builder struct {
	compiler  *compiler
	templates *names
	failFast  bool
	dags      []wfv1.Template
	pods      []wfv1.Template
	// suspended are the names of the templates of nodes that the executor service runs.
	suspended map[string]bool
	nodes     []plan.Node
}

// phase is the tasks of the entry DAG for a phase, which all come after last, and
// those of them that end it.
func (b *builder) phase(p phase, entries *names, last []string) (tasks []wfv1.DAGTask, ends []string, err error) {
	named := func(application string) string { return p.prefix + v1alpha1.DNSName(application) }
	for _, name := range plainFirst(p.graph.Applications, func(a ApplicationGraph) string { return named(a.Name) }) {
		entries.name(name, name)
	}
	b.failFast = p.action != plan.Delete
	open := map[string]bool{}
	for _, app := range p.graph.Applications {
		open[entries.of(named(app.Name))] = true
	}
	for _, app := range p.graph.Applications {
		before := slices.Clone(last)
		if len(app.Dependencies) > 0 {
			before = make([]string, len(app.Dependencies))
		}
		for i, d := range app.Dependencies {
			before[i] = entries.of(named(d))
			delete(open, before[i])
		}
		name := entries.of(named(app.Name))
		template := b.templates.name("application/"+named(app.Name), named(app.Name))
		tasks = append(tasks, task(name, template, before))
		dag, err := b.application(name, p, app)
		if err != nil {
			return nil, nil, err
		}
		b.add(template, dag)
	}
	return tasks, slices.Sorted(maps.Keys(open)), nil
}

// application is the DAG of an application's releases.
func (b *builder) application(entry string, p phase, app ApplicationGraph) ([]wfv1.DAGTask, error) {
	tasks := newNames()
	for _, name := range plainFirst(app.Releases, func(r ReleaseGraph) string { return r.Task }) {
		tasks.name(name, name)
	}
	var dag []wfv1.DAGTask
	for _, r := range app.Releases {
		about := p.objects[app.Name][r.Task]
		if about == nil {
			return nil, fmt.Errorf("assembling workflow %s: no release for task %s of application %s", b.compiler.workflow, r.Task, app.Name)
		}
		before := make([]string, len(r.Dependencies))
		for i, d := range r.Dependencies {
			before[i] = tasks.of(d)
		}
		name := tasks.of(r.Task)
		template, err := b.release(leaf{release: about, task: r.Task, path: entry + "." + name, action: p.action}, about.steps(r.Executors, p.action))
		if err != nil {
			return nil, err
		}
		dag = append(dag, task(name, template, before))
	}
	return dag, nil
}

// release is the template of a release: that of its step, or the DAG of its steps.
func (b *builder) release(l leaf, steps []step) (template string, err error) {
	if len(steps) == 1 {
		l.step = steps[0]
		return b.leaf(l)
	}
	template = b.templates.name("task/"+l.path, l.task)
	tasks := newNames()
	for _, name := range plainFirst(steps, func(s step) string { return v1alpha1.DNSName(s.Name) }) {
		tasks.name(name, name)
	}
	var dag []wfv1.DAGTask
	for _, s := range steps {
		before := make([]string, len(s.Dependencies))
		for i, d := range s.Dependencies {
			before[i] = tasks.of(v1alpha1.DNSName(d))
		}
		name := tasks.of(v1alpha1.DNSName(s.Name))
		leaf := l
		leaf.step, leaf.path = s, l.path+"."+name
		leafTemplate, err := b.leaf(leaf)
		if err != nil {
			return "", err
		}
		dag = append(dag, task(name, leafTemplate, before))
	}
	b.add(template, dag)
	return template, nil
}

// leaf is the template of one node of the workflow, whose node of the plan it makes.
func (b *builder) leaf(l leaf) (template string, err error) {
	node, err := b.compiler.node(l)
	if err != nil {
		return "", err
	}
	b.nodes = append(b.nodes, node)
	if !l.step.pod {
		name := suspendName(l.step.kind, l.action)
		template = b.templates.of("suspend/" + name)
		if template == "" {
			template = b.templates.name("suspend/"+name, name)
		}
		b.suspended[template] = true
		return template, nil
	}
	pod, err := b.compiler.pod(l)
	if err != nil {
		return "", err
	}
	pod.Name = b.templates.name("pod/"+l.path, l.task+"-"+v1alpha1.DNSName(l.step.Name))
	b.pods = append(b.pods, *pod)
	return pod.Name, nil
}

// suspendName is the name of the template of all nodes of a kind that the executor
// service runs. People read it in Argo's own interface.
func suspendName(kind plan.Kind, action plan.Action) string {
	if kind == plan.Release {
		return "release-" + string(action)
	}
	return string(kind)
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
	byName := func(x, y wfv1.Template) int { return strings.Compare(x.Name, y.Name) }
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
		return byName(x, y)
	})
	slices.SortFunc(b.pods, byName)
	out := slices.Concat(b.dags, b.pods)
	for _, leaf := range slices.Sorted(maps.Keys(b.suspended)) {
		out = append(out, wfv1.Template{Name: leaf, Suspend: &wfv1.SuspendTemplate{}})
	}
	return out
}

func task(name, template string, dependencies []string) wfv1.DAGTask {
	slices.Sort(dependencies)
	if len(dependencies) == 0 {
		dependencies = nil
	}
	return wfv1.DAGTask{Name: name, Template: template, Dependencies: dependencies}
}
