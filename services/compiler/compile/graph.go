package compile

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
)

// DefaultExecutor is the name of the one executor of a release whose application
// names none.
const DefaultExecutor = "helmrelease"

// GroupGraph is what comes before what in a group. Its JSON is what `orkestra
// graph` prints: lists are sorted by name and never null, so that two graphs can be
// compared as text.
type GroupGraph struct {
	// Group is the name of the ApplicationGroup.
	Group string `json:"group"`
	// Type is the way that the graph is walked.
	Type events.WorkflowType `json:"type"`
	// Applications of the group.
	Applications []ApplicationGraph `json:"applications"`
}

// ApplicationGraph is one application, and what comes before what in it.
type ApplicationGraph struct {
	// Name of the application in the spec.
	Name string `json:"name"`
	// Dependencies are the names of the applications that come before this one.
	Dependencies []string `json:"dependencies"`
	// Releases of the application.
	Releases []ReleaseGraph `json:"releases"`
}

// ReleaseGraph is one HelmRelease.
type ReleaseGraph struct {
	// Name of the HelmRelease.
	Name string `json:"name"`
	// Task is the release's name in the workflow.
	Task string `json:"task"`
	// Chart that is installed: the staged chart where the charts are known. From
	// the spec alone it is what the owner named: the chart of the application, and
	// for a piece the subchart.
	Chart string `json:"chart"`
	// Subchart that the release installs; empty for the application's own chart.
	Subchart string `json:"subchart"`
	// Dependencies are the tasks that come before this one, in the same application.
	Dependencies []string `json:"dependencies"`
	// Executors that the release goes through: one or more.
	Executors []ExecutorGraph `json:"executors"`
}

// ExecutorGraph is one step of a release.
type ExecutorGraph struct {
	Name string                `json:"name"`
	Type v1alpha1.ExecutorType `json:"type"`
	// Dependencies are the names of the executors of the release that come before.
	Dependencies []string `json:"dependencies"`
}

// Graph of a group, forward. Where staged is nil it is the graph that the spec alone
// describes: subcharts that the spec does not name, and those that the values
// disable, are known only when the charts are.
//
// The error is an *Error that names the fields at fault.
func Graph(group *v1alpha1.ApplicationGroup, staged []events.StagedApplication) (*GroupGraph, error) {
	if faults := group.Validate(); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	charts, err := stagedByApplication(group, staged)
	if err != nil {
		return nil, err
	}
	out := &GroupGraph{Group: group.Name, Type: events.WorkflowForward, Applications: []ApplicationGraph{}}
	for _, app := range group.Spec.Applications {
		out.Applications = append(out.Applications, ApplicationGraph{
			Name:         app.Name,
			Dependencies: set(app.Dependencies),
			Releases:     releaseGraphs(app, charts[app.Name], staged != nil),
		})
	}
	slices.SortFunc(out.Applications, func(a, b ApplicationGraph) int { return cmp.Compare(a.Name, b.Name) })
	if faults := collisions(group, out); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return out, nil
}

// Reverse is the graph that undoes this one: each dependency, on each of the three
// levels, the other way round, and without the steps that undo nothing.
func (g *GroupGraph) Reverse() *GroupGraph {
	out := &GroupGraph{Group: g.Group, Type: events.WorkflowReverse, Applications: make([]ApplicationGraph, len(g.Applications))}
	if g.Type == events.WorkflowReverse {
		out.Type = events.WorkflowForward
	}
	apps := dependents(g.Applications, func(a ApplicationGraph) (string, []string) { return a.Name, a.Dependencies })
	for i, app := range g.Applications {
		releases := make([]ReleaseGraph, len(app.Releases))
		tasks := dependents(app.Releases, func(r ReleaseGraph) (string, []string) { return r.Task, r.Dependencies })
		for j, r := range app.Releases {
			executors := undoable(r.Executors)
			steps := dependents(executors, func(e ExecutorGraph) (string, []string) { return e.Name, e.Dependencies })
			for k, e := range executors {
				executors[k].Dependencies = steps[e.Name]
			}
			r.Dependencies, r.Executors = tasks[r.Task], executors
			releases[j] = r
		}
		out.Applications[i] = ApplicationGraph{Name: app.Name, Dependencies: apps[app.Name], Releases: releases}
	}
	return out
}

// undoable are the executors that undo something: not jobs and waits. What was before
// one of those comes before what was behind it.
func undoable(executors []ExecutorGraph) []ExecutorGraph {
	wanted, there := map[string][]string{}, map[string]bool{}
	for _, e := range executors {
		wanted[e.Name] = e.Dependencies
		if e.Type != v1alpha1.ExecutorJob && e.Type != v1alpha1.ExecutorWait {
			there[e.Name] = true
		}
	}
	out := []ExecutorGraph{}
	for _, e := range executors {
		if there[e.Name] {
			e.Dependencies = set(present(e.Dependencies, wanted, there))
			out = append(out, e)
		}
	}
	return out
}

// dependents of each node by name, sorted, never nil.
func dependents[T any](nodes []T, of func(T) (name string, dependencies []string)) map[string][]string {
	out := make(map[string][]string, len(nodes))
	for _, n := range nodes {
		name, dependencies := of(n)
		if out[name] == nil {
			out[name] = []string{}
		}
		for _, d := range dependencies {
			out[d] = append(out[d], name)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// stagedByApplication is the staged charts by application; nil where staged is nil.
func stagedByApplication(group *v1alpha1.ApplicationGroup, staged []events.StagedApplication) (map[string]events.StagedApplication, error) {
	if staged == nil {
		return nil, nil
	}
	out := make(map[string]events.StagedApplication, len(staged))
	for _, s := range staged {
		out[s.Name] = s
	}
	for _, app := range group.Spec.Applications {
		s, ok := out[app.Name]
		if !ok || !slices.ContainsFunc(s.Pieces, func(p events.StagedPiece) bool { return p.Subchart == "" }) {
			return nil, ungenerable("the charts that were staged do not include the chart of application %s", app.Name)
		}
	}
	return out, nil
}

// placement of an application's own chart among its subcharts.
func placement(app v1alpha1.Application) v1alpha1.ParentPlacement {
	return cmp.Or(app.Spec.ParentPlacement, v1alpha1.ParentAfter)
}

// releaseGraphs is the DAG of an application's releases, the parent where the
// application places it.
func releaseGraphs(app v1alpha1.Application, staged events.StagedApplication, known bool) []ReleaseGraph {
	// The charts to release, by subchart; "" is the application's own.
	charts := map[string]string{"": app.Spec.Chart.Name}
	wanted := make(map[string][]string, len(app.Spec.Subcharts))
	for _, s := range app.Spec.Subcharts {
		charts[s.Name], wanted[s.Name] = s.Name, s.Dependencies
	}
	if known {
		charts = make(map[string]string, len(staged.Pieces))
		for _, p := range staged.Pieces {
			charts[p.Subchart] = p.Chart
		}
	}

	releases := make([]ReleaseGraph, 0, len(charts))
	subcharts := make([]string, 0, len(charts))
	own := v1alpha1.TaskName(app.Name, "")
	for subchart, chart := range charts {
		r := ReleaseGraph{
			Name:      v1alpha1.ReleaseName(app.Name, subchart),
			Task:      v1alpha1.TaskName(app.Name, subchart),
			Chart:     chart,
			Subchart:  subchart,
			Executors: executorGraphs(app.Spec.Workflow),
		}
		if subchart != "" {
			subcharts = append(subcharts, r.Task)
			r.Dependencies = tasksOf(app.Name, present(wanted[subchart], wanted, charts))
			if placement(app) == v1alpha1.ParentBefore {
				r.Dependencies = set(append(r.Dependencies, own))
			}
		}
		releases = append(releases, r)
	}
	for i := range releases {
		if releases[i].Subchart != "" {
			continue
		}
		releases[i].Dependencies = []string{}
		if placement(app) == v1alpha1.ParentAfter {
			releases[i].Dependencies = set(subcharts)
		}
	}
	slices.SortFunc(releases, func(a, b ReleaseGraph) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Subchart, b.Subchart))
	})
	return releases
}

// present is those dependencies that are there at all. One that is not (the values
// disable it) stands for what it waits for itself: a -> b -> c without b is a -> c, or
// disabling a part would loosen the order of the others.
func present[T any](dependencies []string, wanted map[string][]string, there map[string]T) []string {
	found, seen := []string{}, map[string]bool{}
	queue := slices.Clone(dependencies)
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if seen[next] {
			continue
		}
		seen[next] = true
		if _, ok := there[next]; ok {
			found = append(found, next)
		} else {
			queue = append(queue, wanted[next]...)
		}
	}
	return found
}

func tasksOf(application string, subcharts []string) []string {
	tasks := make([]string, len(subcharts))
	for i, s := range subcharts {
		tasks[i] = v1alpha1.TaskName(application, s)
	}
	return set(tasks)
}

// executorGraphs is the DAG of executors of each release of an application.
func executorGraphs(workflow []v1alpha1.Executor) []ExecutorGraph {
	if len(workflow) == 0 {
		return []ExecutorGraph{{Name: DefaultExecutor, Type: v1alpha1.ExecutorHelmRelease, Dependencies: []string{}}}
	}
	out := make([]ExecutorGraph, len(workflow))
	for i, e := range workflow {
		out[i] = ExecutorGraph{Name: e.Name, Type: cmp.Or(e.Type, v1alpha1.ExecutorHelmRelease), Dependencies: set(e.Dependencies)}
	}
	slices.SortFunc(out, func(a, b ExecutorGraph) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// collisions are parts of a group that would be one object. Validation refuses what it
// can see of this; the subcharts that the spec does not name are known only now.
func collisions(group *v1alpha1.ApplicationGroup, graph *GroupGraph) field.ErrorList {
	index := map[string]int{}
	for i, app := range group.Spec.Applications {
		index[app.Name] = i
	}
	var faults field.ErrorList
	releases := map[string]string{}
	for _, app := range graph.Applications {
		path := field.NewPath("spec", "applications").Index(index[app.Name])
		namespace := group.Spec.Applications[index[app.Name]].Spec.Release.TargetNamespace
		tasks := map[string]string{}
		for _, r := range app.Releases {
			what := "the chart of application " + app.Name
			if r.Subchart != "" {
				what = "subchart " + r.Subchart + " of application " + app.Name
			}
			if other, ok := tasks[r.Task]; ok {
				faults = append(faults, field.Invalid(path.Child("spec", "chart"), app.Name,
					fmt.Sprintf("%s and %s would both be task %s of the workflow: rename one of them by an alias in the chart", other, what, r.Task)))
				continue
			}
			tasks[r.Task] = what
			key := namespace + "/" + r.Name
			if other, ok := releases[key]; ok {
				faults = append(faults, field.Invalid(path.Child("name"), app.Name,
					fmt.Sprintf("%s and %s would both be HelmRelease %s: rename the application, or give it another targetNamespace", other, what, key)))
			}
			releases[key] = what
		}
	}
	return faults
}

// set is the names sorted, each once, never nil.
func set(names []string) []string {
	out := append([]string{}, names...)
	slices.Sort(out)
	return slices.Compact(out)
}
