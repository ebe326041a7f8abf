package compile

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/graph"
	"orkestra.dev/pkg/plan"
)

// ReverseInput is the input of Reverse.
type ReverseInput struct {
	// Group to undo. Only its name and its spec are read, and the spec only for what
	// the releases do not say themselves.
	Group *v1alpha1.ApplicationGroup
	// Inventory is every HelmRelease of the group that exists. What is in it is
	// deleted, whether or not the spec still names it.
	Inventory []helmv2.HelmRelease
	// Rollout that the workflow is for.
	Rollout events.Rollout
	// Attempt is how many reverse workflows of the rollout have finished and left
	// something behind.
	Attempt int
	// Options of the installation.
	Options Options
}

// Reverse makes the workflow that deletes the releases of a group in the reverse of
// the order in which they were installed, and its plan. The order is the one that is
// written on the releases; a release that says none has the spec's. Where nothing is
// left to undo the plan is nil.
func Reverse(in ReverseInput) (*Plan, error) {
	if len(in.Inventory) == 0 {
		return nil, nil
	}
	c, err := newCompiler(in.Rollout, in.Options, events.WorkflowReverse, in.Attempt)
	if err != nil {
		return nil, err
	}
	return c.assemble(c.removal(in.Group, in.Inventory))
}

// removal is the phase that deletes releases, in the reverse of the order in which they
// were installed.
func (c *compiler) removal(group *v1alpha1.ApplicationGroup, live []helmv2.HelmRelease) phase {
	forward := &GroupGraph{Group: group.Name, Type: events.WorkflowForward, Applications: []ApplicationGraph{}}
	objects := releases{}
	for _, app := range inventory(group, live) {
		known, mode := removable(group, app.name)
		objects[app.name] = map[string]*release{}
		g := ApplicationGraph{Name: app.name, Dependencies: app.dependencies, Releases: []ReleaseGraph{}}
		for _, r := range app.releases {
			objects[app.name][r.task] = &release{object: forDeletion(r.live, c.workflow, r.task), app: known, mode: mode}
			g.Releases = append(g.Releases, ReleaseGraph{
				Name:         r.live.Name,
				Task:         r.task,
				Chart:        r.live.Labels[v1alpha1.LabelChart],
				Subchart:     r.live.Annotations[v1alpha1.AnnotationSubchart],
				Dependencies: r.dependencies,
				Executors:    removers(known),
			})
		}
		forward.Applications = append(forward.Applications, g)
	}
	return phase{action: plan.Delete, graph: forward.Reverse(), objects: objects}
}

// removable is an application of the spec whose releases are deleted by the steps that
// made them, because pods are among those; and the mode of them. It is nil where one
// step of the executor service deletes a release, whatever steps it took to install
// it; so it is too where the spec does not know the application any more.
func removable(group *v1alpha1.ApplicationGroup, name string) (*v1alpha1.Application, v1alpha1.ExecutorMode) {
	for i := range group.Spec.Applications {
		app := &group.Spec.Applications[i]
		mode := modeOf(group, app)
		if v1alpha1.DNSName(app.Name) != name || !hasPods(app, mode) {
			continue
		}
		for j := range app.Spec.Workflow {
			if len(executorFaults(field.NewPath("workflow").Index(j), &app.Spec.Workflow[j])) > 0 {
				return nil, v1alpha1.ExecutorModeEvent
			}
		}
		return app, mode
	}
	return nil, v1alpha1.ExecutorModeEvent
}

// removers are the steps that delete the releases of an application, in the order in
// which they would install them.
func removers(app *v1alpha1.Application) []ExecutorGraph {
	if app == nil {
		return executorGraphs(nil)
	}
	return executorGraphs(app.Spec.Workflow)
}

// installedApplication is an application of which a release exists.
type installedApplication struct {
	name         string
	dependencies []string
	releases     []installedRelease
}

// installedRelease is a release that exists, and its task, which is unique in its
// application.
type installedRelease struct {
	live         helmv2.HelmRelease
	task         string
	dependencies []string
}

// inventory sorts the releases into applications, in the order that they and the spec
// say. What it returns is a DAG on both levels, whatever the releases say: releases
// of different generations may contradict each other, and a group must always be able
// to go.
func inventory(group *v1alpha1.ApplicationGroup, live []helmv2.HelmRelease) []installedApplication {
	spec := specOf(group)
	live = slices.Clone(live)
	slices.SortFunc(live, func(a, b helmv2.HelmRelease) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	byApp := map[string][]helmv2.HelmRelease{}
	for _, hr := range live {
		// A release that does not say whose it is, is an application of its own.
		app := v1alpha1.DNSName(cmp.Or(hr.Labels[v1alpha1.LabelApplication], hr.Name))
		byApp[app] = append(byApp[app], hr)
	}

	appNodes := make([]graph.Node, 0, len(byApp))
	apps := make(map[string]installedApplication, len(byApp))
	for app, found := range byApp {
		apps[app] = installedApplication{name: app, releases: installed(found, spec.tasks[app])}
		before, said := []string{}, false
		for _, hr := range found {
			if names, ok := listed(hr, v1alpha1.AnnotationApplicationDependencies); ok {
				before, said = append(before, names...), true
			}
		}
		if !said {
			before = spec.applications[app]
		}
		appNodes = append(appNodes, graph.Node{Name: app, Dependencies: before})
	}
	order := acyclic(appNodes, spec.applications)

	out := make([]installedApplication, 0, len(apps))
	for _, name := range order.Names() {
		app := apps[name]
		app.dependencies = order.Dependencies(name)
		out = append(out, app)
	}
	return out
}

// installed is the releases of one application, and what comes before what.
func installed(found []helmv2.HelmRelease, spec map[string][]string) []installedRelease {
	// Two releases may be the same task, where targetNamespace has changed.
	byTask := map[string][]string{}
	keys := make([]string, len(found))
	taken := map[string]bool{}
	for i, hr := range found {
		task := taskOf(hr)
		key := task
		for n := 2; taken[key]; n++ {
			key = task + "-" + strconv.Itoa(n)
		}
		taken[key], keys[i] = true, key
		byTask[task] = append(byTask[task], key)
	}
	nodes := make([]graph.Node, len(found))
	for i, hr := range found {
		task := taskOf(hr)
		before, ok := listed(hr, v1alpha1.AnnotationDependencies)
		if !ok {
			before = spec[task]
		}
		nodes[i] = graph.Node{Name: keys[i]}
		for _, d := range before {
			if d == task {
				continue
			}
			if same, ok := byTask[d]; ok {
				nodes[i].Dependencies = append(nodes[i].Dependencies, same...)
				continue
			}
			nodes[i].Dependencies = append(nodes[i].Dependencies, d)
		}
	}
	order := acyclic(nodes, spec)
	out := make([]installedRelease, len(found))
	for i, hr := range found {
		out[i] = installedRelease{live: hr, task: keys[i], dependencies: order.Dependencies(keys[i])}
	}
	slices.SortFunc(out, func(a, b installedRelease) int { return cmp.Compare(a.task, b.task) })
	return out
}

// taskOf is the release's task as it says itself.
func taskOf(hr helmv2.HelmRelease) string {
	return v1alpha1.DNSName(cmp.Or(hr.Annotations[v1alpha1.AnnotationTask], hr.Name))
}

// acyclic is the DAG of what is there. A dependency that is not there stands for what
// the spec says that it waits for, and one that would close a cycle is left out.
func acyclic(nodes []graph.Node, spec map[string][]string) *graph.Graph {
	names := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		names[n.Name] = true
	}
	there := make([]graph.Node, len(nodes))
	for i, n := range nodes {
		before := slices.DeleteFunc(present(n.Dependencies, spec, names), func(d string) bool { return d == n.Name })
		there[i] = graph.Node{Name: n.Name, Dependencies: set(before)}
	}
	slices.SortFunc(there, func(a, b graph.Node) int { return cmp.Compare(a.Name, b.Name) })
	g, err := graph.New(there)
	if err == nil {
		return g
	}
	return withoutCycles(there)
}

// withoutCycles adds the edges one by one, in order, but for those that close a cycle.
func withoutCycles(nodes []graph.Node) *graph.Graph {
	before := map[string][]string{}
	reaches := func(from, to string) bool {
		seen, stack := map[string]bool{}, []string{from}
		for len(stack) > 0 {
			n := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if n == to {
				return true
			}
			if !seen[n] {
				seen[n] = true
				stack = append(stack, before[n]...)
			}
		}
		return false
	}
	for _, n := range nodes {
		for _, d := range n.Dependencies {
			if !reaches(d, n.Name) {
				before[n.Name] = append(before[n.Name], d)
			}
		}
	}
	out := make([]graph.Node, len(nodes))
	for i, n := range nodes {
		out[i] = graph.Node{Name: n.Name, Dependencies: before[n.Name]}
	}
	g, err := graph.New(out)
	if err != nil {
		// The names are unique, the dependencies are among them, and no edge closed a
		// cycle: there is nothing left that New refuses.
		panic(errors.Join(errors.New("ordering releases that exist"), err))
	}
	return g
}

// specOrder is what the spec says comes before what, by the names of objects.
type specOrder struct {
	applications map[string][]string
	tasks        map[string]map[string][]string
}

// specOf reads the order from a spec that need not be valid.
func specOf(group *v1alpha1.ApplicationGroup) specOrder {
	out := specOrder{applications: map[string][]string{}, tasks: map[string]map[string][]string{}}
	for _, app := range group.Spec.Applications {
		name := v1alpha1.DNSName(app.Name)
		for _, d := range app.Dependencies {
			out.applications[name] = append(out.applications[name], v1alpha1.DNSName(d))
		}
		tasks := map[string][]string{}
		own := v1alpha1.TaskName(app.Name, "")
		for _, s := range app.Spec.Subcharts {
			task := v1alpha1.TaskName(app.Name, s.Name)
			tasks[task] = tasksOf(app.Name, s.Dependencies)
			switch placement(app) {
			case v1alpha1.ParentBefore:
				tasks[task] = append(tasks[task], own)
			case v1alpha1.ParentAfter:
				tasks[own] = append(tasks[own], task)
			case v1alpha1.ParentBeside:
			}
		}
		out.tasks[name] = tasks
	}
	return out
}

// listed is the names that an annotation of a release lists; ok says whether it is there.
func listed(hr helmv2.HelmRelease, annotation string) (names []string, ok bool) {
	value, ok := hr.Annotations[annotation]
	if !ok || value == "" {
		return []string{}, ok
	}
	return strings.Split(value, listSeparator), true
}
