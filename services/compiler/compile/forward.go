package compile

import (
	"fmt"
	"slices"
	"strconv"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/pkg/events"
	"orkestra.dev/pkg/plan"
)

// Input of Forward.
type Input struct {
	// Group to roll out. Only its name and its spec are read.
	Group *v1alpha1.ApplicationGroup
	// Staged charts of all its applications.
	Staged []events.StagedApplication
	// Values of applications, by name, merged of all that their releases refer to. Those
	// of an application that is not in it are the ones in its spec.
	Values map[string]map[string]any
	// Inventory is every HelmRelease of the group that exists. Those that the spec does
	// not call for any more are deleted, in the reverse of their order, when all that
	// it does call for is ready.
	Inventory []helmv2.HelmRelease
	// AtRest: the newest workflow of the group has succeeded, so that no older one can write
	// a release of it any more. Then a release that is as it is wanted gets no node: that
	// nobody is late with another idea of it is all that a node would be for.
	AtRest bool
	// Rollout that the workflow is for.
	Rollout events.Rollout
	// Attempt is how many forward workflows of the rollout have failed before.
	Attempt int
	// Options of the installation.
	Options Options
}

// Forward makes the workflow that brings a group to its spec, and its plan. Where
// the group cannot be rolled out the error is an *Error. Where no release is left to be
// looked at the plan has no workflow.
func Forward(in Input) (*Plan, error) {
	return install(in, in.Group, events.WorkflowForward, RevisionName(in.Rollout))
}

// Rollback makes the workflow that takes a group back to a revision, after a rollout of
// it has failed: the releases of the revision as they were, in its order, and then those
// away that the failed rollout has added. Staged charts and values are the revision's,
// whatever in has of them.
func Rollback(in Input, to Revision) (*Plan, error) {
	if app := to.lost(); app != "" {
		return nil, &Error{Reason: v1alpha1.ReasonValuesNotFound, Err: fmt.Errorf("the values of application %s in revision %s are gone: its Secret %s was deleted",
			app, RevisionName(to.Rollout), SnapshotName(RevisionName(to.Rollout)))}
	}
	failed := in.Group
	in.Group = in.Group.DeepCopy()
	in.Group.Spec, in.Staged, in.Values, in.Attempt, in.AtRest = to.Spec, to.Staged, to.Values, 0, false
	return install(in, failed, events.WorkflowRollback, RevisionName(to.Rollout))
}

// install makes the workflow of in. Where releases are to go, leaving says how they
// were made, if anything does.
func install(in Input, leaving *v1alpha1.ApplicationGroup, kind events.WorkflowType, revision string) (*Plan, error) {
	if in.Staged == nil {
		in.Staged = []events.StagedApplication{}
	}
	graph, err := Graph(in.Group, in.Staged)
	if err != nil {
		return nil, err
	}
	if faults := stepFaults(in.Group); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	c, err := newCompiler(in.Rollout, in.Options, kind, in.Attempt)
	if err != nil {
		return nil, err
	}
	objects, err := c.releases(in, graph)
	if err != nil {
		return nil, err
	}
	if faults := reshaped(in.Group, objects, in.Inventory); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	called := map[types.NamespacedName]bool{}
	for _, tasks := range objects {
		for _, r := range tasks {
			called[types.NamespacedName{Namespace: r.object.Namespace, Name: r.object.Name}] = true
		}
	}
	standing := 0
	if in.AtRest {
		if graph, standing, err = graph.without(c.standing(objects, in.Inventory)); err != nil {
			return nil, err
		}
	}
	phases := []phase{{action: plan.Install, graph: graph, objects: objects}}
	left := slices.DeleteFunc(slices.Clone(in.Inventory), func(hr helmv2.HelmRelease) bool {
		return called[types.NamespacedName{Namespace: hr.Namespace, Name: hr.Name}]
	})
	if len(left) > 0 {
		away := c.removal(leaving, left)
		away.prefix = "remove-"
		phases = append(phases, away)
	}
	if len(graph.Applications) == 0 && len(left) == 0 {
		return &Plan{Graph: graph, Standing: standing}, nil
	}
	p, err := c.assemble(phases...)
	if err != nil {
		return nil, err
	}
	p.Standing = standing
	p.Workflow.Annotations[v1alpha1.AnnotationRevision] = revision
	if standing > 0 {
		p.Workflow.Annotations[v1alpha1.AnnotationStanding] = strconv.Itoa(standing)
	}
	return p, nil
}

// releases that the group calls for, by application and task.
func (c *compiler) releases(in Input, graph *GroupGraph) (releases, error) {
	charts, err := stagedByApplication(in.Group, in.Staged)
	if err != nil {
		return nil, err
	}
	out := releases{}
	for i := range in.Group.Spec.Applications {
		app := &in.Group.Spec.Applications[i]
		out[app.Name] = map[string]*release{}
		staged := charts[app.Name]
		g := graph.Applications[slices.IndexFunc(graph.Applications, func(a ApplicationGraph) bool { return a.Name == app.Name })]
		before := make([]string, len(g.Dependencies))
		for j, d := range g.Dependencies {
			before[j] = v1alpha1.DNSName(d)
		}
		for _, r := range g.Releases {
			piece := staged.Pieces[slices.IndexFunc(staged.Pieces, func(p events.StagedPiece) bool { return p.Subchart == r.Subchart })]
			about := &release{object: c.helmRelease(app, set(before), staged, piece, r), app: app, mode: modeOf(in.Group, app)}
			if remediation := in.Group.Spec.Remediation; remediation == nil || remediation.Strategy != v1alpha1.RemediationNone {
				about.object.Spec.Upgrade = cleanedUp(about.object.Spec.Upgrade)
			}
			if err := c.setValues(about, piece, in.Values); err != nil {
				return nil, err
			}
			out[app.Name][r.Task] = about
		}
	}
	return out, nil
}

// reshaped are the applications that are installed whole and are to be split, or the
// other way. The objects that would move from one Helm release to another would be
// gone in the end: whichever is upgraded last deletes what it no longer has.
func reshaped(group *v1alpha1.ApplicationGroup, objects releases, live []helmv2.HelmRelease) field.ErrorList {
	split := map[types.NamespacedName]bool{}
	for _, hr := range live {
		split[types.NamespacedName{Namespace: hr.Namespace, Name: hr.Name}] = hr.Annotations[v1alpha1.AnnotationSplit] != ""
	}
	var faults field.ErrorList
	for i, app := range group.Spec.Applications {
		own := objects[app.Name][v1alpha1.TaskName(app.Name, "")].object
		was, there := split[types.NamespacedName{Namespace: own.Namespace, Name: own.Name}]
		if wanted := own.Annotations[v1alpha1.AnnotationSplit] != ""; !there || was == wanted {
			continue
		}
		path := field.NewPath("spec", "applications").Index(i).Child("spec", "subcharts")
		how := "is installed whole, and subcharts would split it"
		if was {
			how = "is split, and without subcharts it would be installed whole"
		}
		faults = append(faults, field.Invalid(path, app.Name,
			"application "+app.Name+" "+how+": Helm would delete what moves from one release to another; remove the application first and add it again, or put subcharts back"))
	}
	return faults
}
