package compile

import (
	"fmt"
	"slices"

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
	// Inventory is every HelmRelease of the group that exists. Those that the spec does
	// not call for any more are deleted, in the reverse of their order, when all that
	// it does call for is ready.
	Inventory []helmv2.HelmRelease
	// Rollout that the workflow is for.
	Rollout events.Rollout
	// Options of the installation.
	Options Options
}

// Forward makes the workflow that brings a group to its spec, and its plan. Where
// the group cannot be rolled out the error is an *Error.
func Forward(in Input) (*Plan, error) { return install(in, events.WorkflowForward) }

// Rollback makes the workflow that takes a group back to a revision, after a rollout of
// it has failed: the releases of the revision as they were, in its order, and then those
// away that the failed rollout has added. In that of in, group and staged charts are
// the revision's.
func Rollback(in Input, to Revision) (*Plan, error) {
	in.Group = in.Group.DeepCopy()
	in.Group.Spec, in.Staged = to.Spec, to.Staged
	return install(in, events.WorkflowRollback)
}

func install(in Input, kind events.WorkflowType) (*Plan, error) {
	if in.Staged == nil {
		in.Staged = []events.StagedApplication{}
	}
	graph, err := Graph(in.Group, in.Staged)
	if err != nil {
		return nil, err
	}
	if faults := unsupported(in.Group); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	c, err := newCompiler(in.Rollout, in.Options, kind, 0)
	if err != nil {
		return nil, err
	}
	charts, err := stagedByApplication(in.Group, in.Staged)
	if err != nil {
		return nil, err
	}
	objects := releases{}
	called := map[types.NamespacedName]bool{}
	for _, app := range in.Group.Spec.Applications {
		objects[app.Name] = map[string]*helmv2.HelmRelease{}
		staged := charts[app.Name]
		i := slices.IndexFunc(graph.Applications, func(a ApplicationGraph) bool { return a.Name == app.Name })
		before := make([]string, len(graph.Applications[i].Dependencies))
		for j, d := range graph.Applications[i].Dependencies {
			before[j] = v1alpha1.DNSName(d)
		}
		for _, r := range graph.Applications[i].Releases {
			piece := staged.Pieces[slices.IndexFunc(staged.Pieces, func(p events.StagedPiece) bool { return p.Subchart == r.Subchart })]
			hr := c.helmRelease(app, set(before), staged, piece, r)
			objects[app.Name][r.Task] = hr
			called[types.NamespacedName{Namespace: hr.Namespace, Name: hr.Name}] = true
		}
	}
	if faults := reshaped(in.Group, objects, in.Inventory); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	phases := []phase{{action: plan.Install, graph: graph, objects: objects}}
	left := slices.DeleteFunc(slices.Clone(in.Inventory), func(hr helmv2.HelmRelease) bool {
		return called[types.NamespacedName{Namespace: hr.Namespace, Name: hr.Name}]
	})
	if len(left) > 0 {
		away := c.removal(in.Group, left)
		away.prefix = "remove-"
		phases = append(phases, away)
	}
	return c.assemble(phases...)
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
		own := objects[app.Name][v1alpha1.TaskName(app.Name, "")]
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

// unsupported are the executors that cannot be run yet.
func unsupported(group *v1alpha1.ApplicationGroup) field.ErrorList {
	var faults field.ErrorList
	for i, app := range group.Spec.Applications {
		for j, e := range app.Spec.Workflow {
			switch e.Type {
			case "", v1alpha1.ExecutorHelmRelease:
			case v1alpha1.ExecutorCustom, v1alpha1.ExecutorKeptn:
				path := field.NewPath("spec", "applications").Index(i).Child("spec", "workflow").Index(j).Child("type")
				faults = append(faults, field.Invalid(path, e.Type, fmt.Sprintf("executor %s of application %s: executors of this type are not supported yet; use %s", e.Name, app.Name, v1alpha1.ExecutorHelmRelease)))
			default:
				path := field.NewPath("spec", "applications").Index(i).Child("spec", "workflow").Index(j).Child("type")
				faults = append(faults, field.NotSupported(path, e.Type, []v1alpha1.ExecutorType{v1alpha1.ExecutorHelmRelease}))
			}
		}
	}
	return faults
}
